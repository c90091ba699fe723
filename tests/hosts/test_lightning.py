"""A Lightning training with attention: inserted, frozen at first, drawn, resumed, loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pictures import distance, images
from torch import Tensor, nn

import regard
from regard.surgery import insertions, recipe

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
timm = pytest.importorskip("timm", reason="timm is not installed")

from regard.hosts import lightning as host  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")


class Classifier(lightning.LightningModule):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = timm.create_model("resnet10t", num_classes=classes)
        self.frozen: list[int] = []

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.frozen.append(sum(not p.requires_grad for p in self.model.parameters()))
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        groups = regard.parameter_groups(self.model, 1e-2, weight_decay=0.1)
        return torch.optim.AdamW(groups)


def data() -> Any:
    pictures = torch.utils.data.TensorDataset(images(8), torch.arange(8) % 2)
    return torch.utils.data.DataLoader(pictures, batch_size=4)


def fit(net: Classifier, folder: Any, epochs: int, *, resume: Any = None, **options: Any) -> Any:
    options = {"mechanism": "cbam", "reduction": 4, **options}
    if options["mechanism"] == "simam":
        del options["reduction"]
    callback = host.attention(example_input=images(), **options)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[callback, lightning.callbacks.ModelCheckpoint(dirpath=folder, save_top_k=-1)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, data(), ckpt_path=resume)
    return trainer


def test_inserted_frozen_drawn_and_resumed(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    net = Classifier()
    plain = {name: x.clone() for name, x in net.model.state_dict().items()}
    fit(net, tmp_path, 1, frozen_epochs=1, draw=images())
    assert len(insertions(net.model)) == 4 and all(net.frozen)
    state = net.model.state_dict()
    assert all(torch.equal(state[name], x) for name, x in plain.items()), "it was trained alone"
    assert all(p.requires_grad for p in net.model.parameters())
    assert (tmp_path / "attention" / "epoch0.png").stat().st_size > 1000
    (saved,) = tmp_path.glob("epoch=0*.ckpt")
    again = Classifier()
    fit(again, tmp_path, 2, frozen_epochs=1, resume=saved)
    assert not any(again.frozen) and recipe(again) == recipe(net)
    state = again.model.state_dict()
    assert not all(torch.equal(state[name], x) for name, x in plain.items())
    (last,) = tmp_path.glob("epoch=1*.ckpt")
    loaded = host.load_from_checkpoint(Classifier, last)
    assert type(loaded) is Classifier and recipe(loaded) == recipe(net)
    x = images()
    assert distance(loaded.model.eval()(x), again.model.eval()(x)) == 0
    assert distance(loaded.model(x), net.model.eval()(x)) > 1e-4


def test_other_checkpoints_are_refused(tmp_path):
    fit(Classifier(), tmp_path, 1, mechanism="simam", eps=1e-4)
    (saved,) = tmp_path.glob("*.ckpt")
    with pytest.raises(ValueError, match="insertions of the checkpoint are others:\nmodule") as e:
        fit(Classifier(), tmp_path, 2, resume=saved, mechanism="simam", eps=1e-2)
    assert "eps=0.0001" in str(e.value) and "eps=0.01" in str(e.value)
    plain = tmp_path / "plain.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.0.0"}, plain)
    with pytest.raises(ValueError, match="has no recipe: the callback of regard writes one"):
        host.load_from_checkpoint(Classifier, plain)
    with pytest.raises(ValueError, match="frozen_epochs must be zero or more, got -1"):
        host.attention("se", frozen_epochs=-1)
