"""Attention in a Lightning training: inserted, trained alone at first, drawn, and saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from ..core.attention import Mechanism
from ..surgery import Recipe, freeze, recipe, unfreeze
from ..surgery import insert as insert_into
from ..surgery.files import differences
from ..surgery.recipe import KEY
from ..surgery.site import described

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule

    M = TypeVar("M", bound=LightningModule)


def attention(
    mechanism: str | type[Mechanism],
    at: Any = "residual",
    *,
    module: str = "model",
    frozen_epochs: int = 0,
    draw: Tensor | None = None,
    **options: Any,
) -> Callback:
    """Return a callback that inserts a mechanism before the optimizer is made.

    Checkpoints hold how the insertions are made; a run that resumes has the same ones, or is
    refused. `load_from_checkpoint` builds the module again.

    Args:
        mechanism: As for `regard.insert`.
        at: The modules that it follows.
        module: The attribute of the Lightning module that has the model.
        frozen_epochs: For so many epochs the attention is trained alone. With several processes,
            this needs ``strategy="ddp_find_unused_parameters_true"``.
        draw: Images; after each epoch, the maps for them are drawn into the folder ``attention`` of
            the run.
        options: Those of `regard.insert` and of the mechanism.

    Raises:
        ValueError: ``frozen_epochs`` is negative, or the checkpoint has other insertions.
    """
    from lightning.pytorch import Callback

    if frozen_epochs < 0:
        raise ValueError(f"frozen_epochs must be zero or more, got {frozen_epochs}")

    class AttentionCallback(Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            model = getattr(pl_module, module)
            if not described(model):
                setattr(pl_module, module, insert_into(model, mechanism, at, **options))

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch < frozen_epochs:
                freeze(getattr(pl_module, module))
            else:
                unfreeze(getattr(pl_module, module))

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if draw is None or not trainer.is_global_zero:
                return
            from ..explanation import explain

            x = draw.to(pl_module.device)
            folder = Path(trainer.log_dir or trainer.default_root_dir) / "attention"
            folder.mkdir(parents=True, exist_ok=True)
            figure = explain(getattr(pl_module, module), x).figure()
            figure.savefig(folder / f"epoch{trainer.current_epoch}.png")

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            unfreeze(getattr(pl_module, module))

        def on_save_checkpoint(
            self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]
        ) -> None:
            checkpoint[KEY] = recipe(pl_module).to_dict()

        def on_load_checkpoint(
            self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]
        ) -> None:
            found = checkpoint.get(KEY)
            if found and (other := differences(recipe(pl_module), Recipe.from_dict(found))):
                raise ValueError(f"the insertions of the checkpoint are others:\n{other}")

    return AttentionCallback()


def load_from_checkpoint(cls: type[M], file: str | Path, **options: Any) -> M:
    """Load a Lightning module with the insertions of its checkpoint.

    Args:
        cls: Its class.
        file: A checkpoint that was written with the callback `attention`.
        options: Those of ``load_from_checkpoint``.

    Raises:
        ValueError: nothing is known of insertions there.
    """

    class Attended(cls):  # type: ignore[misc, valid-type]
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            if KEY not in checkpoint:
                raise ValueError(f"{file} has no recipe: the callback of regard writes one")
            if not described(self):
                Recipe.from_dict(checkpoint[KEY]).apply(self, inplace=True)
            super().on_load_checkpoint(checkpoint)

    found: Any = Attended.load_from_checkpoint(file, **options)
    found.__class__ = cls
    return found
