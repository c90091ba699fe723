"""Attention in the models of transformers: in their configuration, from which they are built.

``save_pretrained`` writes how the insertions are made into ``config.json``, under the key
``regard``, and the class that is built from it has them before its weights are loaded. Attention
whose weights a checkpoint lacks starts as it would be inserted.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

from torch import nn

from ..core.attention import Mechanism
from ..core.watching import HOST
from ..surgery import Recipe, attention_parameters
from ..surgery import insert as insert_into
from ..surgery.recipe import KEY, recipe
from ..surgery.site import Inserted, described, inserted_modules
from .around import around

M = TypeVar("M", bound=nn.Module)


def insert(model: M, mechanism: str | type[Mechanism], at: Any = "residual", **options: Any) -> M:
    """Insert a mechanism as `regard.insert` does, into a model that keeps it when it is saved.

    Args:
        model: A ``PreTrainedModel``; it is not changed.
        mechanism: As for `regard.insert`, as are all other arguments.
        at: The modules that it follows.
        options: Such as ``example_input={"pixel_values": image}``, and options of the mechanism.

    Returns:
        A new model, for `Trainer`, ``save_pretrained`` and ``from_pretrained``.

    Raises:
        ValueError: as for `regard.insert`.
        TypeError: it is no model of transformers.
    """
    from transformers import PreTrainedModel  # type: ignore[attr-defined]  # loaded lazily

    register()
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"expected a PreTrainedModel of transformers, got {type(model).__name__}")
    new: Any = insert_into(model, mechanism, at, **options)
    _store(new)
    return new


def from_pretrained(folder: str, **options: Any) -> Any:
    """Load what ``save_pretrained`` wrote, as the class that was saved.

    Args:
        folder: A folder or the name of a repository.
        options: Those of ``from_pretrained``.

    Returns:
        The model with its attention.

    Raises:
        ValueError: nothing is known of insertions there.
    """
    import transformers

    register()
    config = transformers.AutoConfig.from_pretrained(folder)  # type: ignore[attr-defined]  # loaded lazily
    if not (found := getattr(config, KEY, None)):
        raise ValueError(f"{folder} has no recipe in its config.json: save_pretrained writes one")
    return getattr(transformers, found["model"]).from_pretrained(folder, **options)


def register() -> None:
    """Let transformers build what a configuration says of regard; it may be called several times.

    ``from_pretrained`` of the class that was saved, or of an auto class, then does what
    `from_pretrained` does here, and `Trainer` keeps gates and biases of attention from decaying.
    """
    from transformers import PreTrainedModel, Trainer  # type: ignore[attr-defined]  # loaded lazily

    around(PreTrainedModel, "post_init", _complete)
    around(PreTrainedModel, "save_pretrained", _save)
    around(PreTrainedModel, "_initialize_weights", _initialize)
    around(Trainer, "get_decay_parameter_names", _without_gates)
    if find_spec("peft"):
        from peft.tuners import tuners_utils

        # The entries of adapters, which PEFT chooses from the state dict by names of modules.
        around(tuners_utils, "_get_tuner_state_dict_key_prefixes", _as_in_state_dict)


def modules_to_save(model: nn.Module) -> list[str]:
    """Return the names of the attention, for the option of that name of a `LoraConfig` of PEFT.

    Adapters freeze a model; what is in this list is trained and saved beside them.
    """
    added = {inserted for *_, inserted in inserted_modules(model)}
    return [name for name, module in model.named_modules() if module in added]


def _store(model: Any) -> None:
    found = recipe(model)
    if found:
        setattr(model.config, KEY, found.to_dict())
    elif hasattr(model.config, KEY):
        delattr(model.config, KEY)


def _complete(post_init: Callable[[Any], None], model: Any) -> None:
    """Finish the construction of a model, with what its configuration says of insertions."""
    post_init(model)
    found = getattr(model.config, KEY, None)
    # Its parts, which have the same configuration, are constructed before it.
    if found and found["model"] == type(model).__name__ and not described(model):
        Recipe.from_dict(found).apply(model, inplace=True)


def _save(save: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
    """Save a model, with what was inserted or removed since it was built."""
    if described(model) or hasattr(model.config, KEY):
        _store(model)
    return save(model, *args, **kwargs)


def _initialize(initialize: Callable[..., Any], model: Any, module: nn.Module, *args: Any) -> Any:
    """Initialize a module whose weights a checkpoint lacks; attention does that itself."""
    if isinstance(module, Inserted) and not getattr(module, "_is_hf_initialized", False):
        parameters = [*module.parameters()]
        if not any(getattr(p, "_is_hf_initialized", False) for p in parameters):
            module.reset_parameters()
        for part in module.modules():
            part._is_hf_initialized = True  # type: ignore[assignment]
        return None
    return initialize(model, module, *args)


def _without_gates(names: Callable[..., list[str]], trainer: Any, model: nn.Module) -> list[str]:
    """Return the names of parameters that decay; those of attention with one axis do not."""
    spared = {id(p) for p in attention_parameters(model) if p.dim() < 2}
    parameters = dict(model.named_parameters())
    return [name for name in names(trainer, model) if id(parameters.get(name)) not in spared]


def _as_in_state_dict(names: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return prefixes of names without that of the wrapped module, as state dicts have them."""
    found = names(*args, **kwargs)
    return type(found)(name.replace(f"{HOST}.", "") for name in found)


def names() -> list[str]:
    """Return the types of models that transformers knows."""
    import transformers

    return sorted(transformers.CONFIG_MAPPING)  # type: ignore[attr-defined]  # loaded lazily


def build(name: str, *, pretrained: bool = False, **more: Any) -> Any:
    """Return a model of images: of a type, such as ``vit``, or of a repository.

    Args:
        name: A type that transformers lists, with its usual configuration; or a folder or the name
            of a repository.
        pretrained: Whether weights are loaded; a type has none.
        more: ``num_classes``.

    Raises:
        ValueError: there is no such type, or it has no model of images.
    """
    import transformers

    options = {"num_labels": more.pop("num_classes")} if more.get("num_classes") else {}
    if more:
        raise TypeError(f"{name}: no option {next(iter(more))!r}")
    local = name not in transformers.CONFIG_MAPPING  # type: ignore[attr-defined]  # loaded lazily
    if local:
        config = transformers.AutoConfig.from_pretrained(name, **options)  # type: ignore[attr-defined]  # loaded lazily
    elif pretrained:
        raise ValueError(f"{name!r} is a type of models: name a repository for its weights")
    else:
        config = transformers.AutoConfig.for_model(name, **options)  # type: ignore[attr-defined]  # loaded lazily
    for task in (
        "ImageClassification",
        "ObjectDetection",
        "SemanticSegmentation",
        "DepthEstimation",
    ):
        auto = getattr(transformers, f"AutoModelFor{task}")
        if type(config) in auto._model_mapping:
            return auto.from_pretrained(name, **options) if pretrained else auto.from_config(config)
    raise ValueError(f"{name!r} has no model that classifies, detects, segments or measures depth")
