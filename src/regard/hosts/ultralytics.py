"""Attention in the models of ultralytics: kept by its trainers, and named in its YAML files.

A trainer of ultralytics builds its model anew from the YAML that the model stores, and loads the
weights that fit. What `insert` does is therefore stored in that YAML too, under the key ``regard``,
and done again whenever a model is built from it. Checkpoints hold models that are pickled; a
process that reads one is prepared by that alone, if it can import regard.

ultralytics is licensed under the AGPL-3.0. Nothing of it is in this file, which calls its classes
and runs functions around their methods. Who distributes a program with ultralytics in it, or offers
one over a network, has to follow that license.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from ..catalog import entries
from ..core.attention import Mechanism
from ..surgery import Recipe, attention_parameters, plan, recipe
from ..surgery.dry_run import Example
from ..surgery.layout import Layout
from ..surgery.places import PRESETS, At, match
from ..surgery.planning import class_of, maker
from ..surgery.recipe import KEY
from ..surgery.site import (
    Inserted,
    InsertedAttention,
    attended,
    inserted_modules,
    outermost,
    paths,
    removed,
    wrappers,
)
from ..surgery.wrapper import HOST, Attended, Wrapper, innermost
from .around import around

T = TypeVar("T")
SIZES = (128, 64, 256, 640)


def insert(
    yolo: T,
    mechanism: str | type[Mechanism],
    at: At = "residual",
    *,
    start: Literal["identity", "paper"] = "identity",
    skip: Literal["unfit"] | None = None,
    example_input: Example = None,
    **options: Any,
) -> T:
    """Insert a mechanism into a model of ultralytics, which keeps it from then on.

    It is there, and trained, in ``train`` with any number of processes, in ``train(resume=True)``,
    ``val``, ``predict``, ``fuse``, ``export`` and in the checkpoints.

    Args:
        yolo: A ``YOLO``, ``RTDETR``, … of ultralytics, which is changed; or the module in it, of
            which a copy is changed.
        mechanism: As for `regard.insert`, as are all other arguments.
        at: The modules that it follows. Patterns leave out the head and its fixed convolutions.
        start: ``identity`` or ``paper``.
        skip: Whether modules that it cannot follow are left out.
        example_input: Input of the model.
        options: Options of the mechanism.

    Returns:
        What was given, with the attention.

    Raises:
        ValueError: as for `regard.insert`; or the norms are fused into the convolutions, so that
            a trainer would build another model.
        TypeError: it is no model of ultralytics.
    """
    register()
    model = _module(yolo)
    if model.is_fused():
        raise ValueError(
            f"{type(model).__name__} is fused, as predict() and val() leave it: load it anew"
        )
    at = _without_head(model, at)
    found = plan(
        model, mechanism, at, start=start, skip=skip, example_input=example_input, **options
    )
    new = found.apply()
    _store(new)
    return _exchanged(yolo, new)


def remove(yolo: T, at: At | None = None) -> T:
    """Remove what `insert` added, also from what a trainer would build.

    Args:
        yolo: What was given to `insert`.
        at: Names of modules; all by default.

    Returns:
        What was given, without the attention.

    Raises:
        ValueError: nothing was inserted, or not there.
    """
    register()
    new = removed(_module(yolo), at)
    _store(new)
    return _exchanged(yolo, new)


def register() -> None:
    """Let ultralytics build what its YAML files say of regard; it may be called several times.

    A layer ``- [-1, 1, regard.CBAM, []]`` of a YAML file is then a mechanism, by the name of its
    class, with its options as a mapping: ``[{reduction: 8}]``. The channels are those of the layer
    that it reads. It starts as the identity, as with `regard.insert`; ``{start: paper}`` is the
    mechanism from the first step on. ``load`` finds the weights of the other layers under the
    numbers that they have without it.
    """
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.nn import tasks

    for cls in [*vars(tasks).values()]:
        if isinstance(cls, type) and issubclass(cls, tasks.BaseModel) and "__init__" in vars(cls):
            around(cls, "__init__", _complete)
    around(tasks.BaseModel, "load", _load_moved)
    around(tasks.BaseModel, "fuse", _fuse)
    around(BaseTrainer, "build_optimizer", _spare_gates)
    for entry in entries().values():
        if entry.card.plug and entry.card.kind in ("gate", "relation", "sequence"):
            # The class of a layer is looked up among the names of that file.
            vars(tasks).setdefault(f"{KEY}.{entry.name}", partial(Layer, entry.key))


class Layer(Attended):
    """A mechanism as a layer, which is created once the channels of its input are known.

    Args:
        mechanism: Its key.
        options: Its options, and ``start``.
    """

    _mechanism: str = ""
    _options: tuple[tuple[str, Any], ...] = ()

    def __init__(self, mechanism: str, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(nn.Identity())
        if options is not None and not isinstance(options, Mapping):
            raise TypeError(
                f"{mechanism}: expected options such as {{reduction: 8}}, got {options!r}"
            )
        self._mechanism = mechanism
        self._options = tuple((options or {}).items())

    def __setstate__(self, state: dict[str, Any]) -> None:
        register()  # a checkpoint is read by a process that may train on
        super().__setstate__(state)

    def build(self, channels: int) -> None:
        """Create the mechanism."""
        options = dict(self._options)
        start = options.pop("start", "identity")
        if start not in ("identity", "paper"):
            raise ValueError(
                f"{self._mechanism}: start must be 'identity' or 'paper', got {start!r}"
            )
        layout = Layout("b c h w", channels)
        mechanism = maker(self._mechanism, class_of(self._mechanism, options), layout, options)()
        gated = start == "identity" and not mechanism.identity_at_init
        self.attend(InsertedAttention(mechanism, layout, gated=gated).train(self.training), ())


class Stored(dict[str, Any]):
    """The recipe in a model's YAML; whoever unpickles it can build the model again.

    Attributes:
        mechanisms: Classes of one's own that are in it.
    """

    mechanisms: tuple[type[Mechanism], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _stored, (dict(self), self.mechanisms)


def _stored(data: Mapping[str, Any], mechanisms: tuple[type[Mechanism], ...]) -> Stored:
    register()
    found = Stored(data)
    found.mechanisms = mechanisms
    return found


def _store(model: Any) -> None:
    """Write the insertions into the YAML of a model, less the layers that are in it already."""
    layers = {
        path for path, m in paths(model) if isinstance(attended(outermost(model, path)), Layer)
    }
    steps = [s for s in recipe(model) if s.path not in layers or s.child != "attention"]
    model.yaml.pop(KEY, None)
    if steps:
        stored = model.yaml[KEY] = Stored(Recipe(steps, type(model).__name__).to_dict())
        used = {type(one.mechanism) for *_, one in inserted_modules(model)}
        stored.mechanisms = tuple(cls for cls in used if not hasattr(cls, "card"))


def _module(yolo: Any) -> Any:
    from ultralytics.engine.model import Model
    from ultralytics.nn.tasks import BaseModel

    model = yolo.model if isinstance(yolo, Model) else yolo
    if not isinstance(model, BaseModel):
        raise TypeError(
            f"expected a YOLO or another model of ultralytics, got {type(yolo).__name__}"
            + (f" of {model!r}" if model is not yolo else "")
        )
    return model


def _exchanged(yolo: Any, new: nn.Module) -> Any:
    from ultralytics.engine.model import Model

    if not isinstance(yolo, Model):
        return new
    yolo.model = new
    yolo.predictor = None  # it holds the model that was there
    # A trainer takes over the weights of a model that comes from a checkpoint.
    yolo.ckpt = {**(yolo.ckpt or {}), "model": new}
    return yolo


def _without_head(model: Any, at: At) -> At:
    """Let patterns leave out the head, whose output is no feature, and its fixed convolutions."""
    head = f"model.{len(model.model) - 1}"
    if isinstance(at, str):
        if at == head:
            raise ValueError(f"{at!r} is the head, whose output the loss reads: name a part of it")
        if at in dict(paths(model)) or at.rpartition(".")[2] in PRESETS:
            return at
    if not match(at, paths(model)):
        return at  # which the error then names
    return lambda name, module: (
        bool(match(at, [(name, module)]))
        and name != head
        and not (name.startswith(f"{head}.") and "dfl" in name.split("."))
    )


def _complete(init: Callable[..., None], model: Any, *args: Any, **kwargs: Any) -> None:
    """Build a model, and put into it what its YAML says."""
    init(model, *args, **kwargs)
    if not hasattr(model, "yaml") or not hasattr(model, "model"):
        return
    if any(not layer._paths for layer in _layers(model)):
        _build_layers(model)
    stored = model.yaml.get(KEY)
    if stored and not any(isinstance(m, Attended) and type(m) is Attended for m in model.modules()):
        Recipe.from_dict(stored).apply(
            model, inplace=True, mechanisms=getattr(stored, "mechanisms", ())
        )


def _layers(model: nn.Module) -> list[Layer]:
    return [module for module in model.modules() if isinstance(module, Layer)]


def _build_layers(model: Any) -> None:
    """Create the mechanisms of layers, with the channels of a pass through a copy of the model."""
    probe, channels = copy.deepcopy(model).eval(), dict[int, int]()
    for number, layer in enumerate(_layers(probe)):
        layer.register_forward_pre_hook(
            lambda _, given, number=number: channels.update({number: given[0].shape[1]})
        )
    problem = None
    for size in SIZES:
        try:
            with torch.no_grad():
                probe(torch.zeros(1, model.yaml.get("channels", 3), size, size))
            break
        except (RuntimeError, ValueError, AssertionError, IndexError) as e:
            problem = problem or e
    for number, layer in enumerate(_layers(model)):
        if number not in channels:
            raise ValueError(f"the input of layer {layer.i} is unknown: {problem}")
        layer.build(channels[number])


def _load_moved(load: Callable[..., Any], model: Any, weights: Any, *args: Any, **kw: Any) -> Any:
    """Load weights; those of a model with fewer layers of ours are at other numbers."""
    if isinstance(weights, Mapping):
        moved = {n: _moved(w, model) if n in ("model", "ema") else w for n, w in weights.items()}
    else:
        moved = _moved(weights, model)
    return load(model, moved, *args, **kw)


def _moved(theirs: Any, model: Any) -> Any:
    """Return a model whose layers are numbered as those of another one, which has more of ours."""
    old: Any = getattr(theirs, "model", None) if isinstance(theirs, nn.Module) else None
    if not isinstance(theirs, nn.Module) or not isinstance(old, nn.Sequential):
        return theirs
    numbers = [i for i, layer in enumerate(model.model) if not _is_layer(layer)]
    layers = [layer for layer in old if not _is_layer(layer)]
    if len(old) == len(model.model) or len(layers) != len(numbers):
        return theirs
    new = copy.copy(theirs)
    renamed = OrderedDict(zip(map(str, numbers), layers, strict=True))
    new.__dict__["_modules"] = {**theirs._modules, "model": nn.Sequential(renamed)}
    return new


def _is_layer(module: nn.Module) -> bool:
    return any(isinstance(wrapper, Layer) for wrapper in wrappers(module))


def _fuse(fuse: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
    """Fold norms into convolutions, except where attention is between the two.

    Attention that follows a norm follows the convolution then.
    """
    with _unfolded(model):
        found = [m for m in model.modules() if isinstance(m._modules.get("bn"), Wrapper)]
        around = [(module, module._modules["bn"]) for module in found]
        for module, wrapper in around:
            module._modules["bn"] = innermost(wrapper)
        try:
            return fuse(model, *args, **kwargs)
        finally:
            for module, wrapper in around:
                if "bn" in module._modules:
                    module._modules["bn"] = wrapper
                    continue
                [*wrappers(wrapper)][-1]._modules[HOST] = module._modules["conv"]
                module._modules["conv"] = wrapper


@contextmanager
def _unfolded(model: nn.Module) -> Iterator[None]:
    """Hide from `fuse` what cannot be folded, and put it back."""
    hidden: list[tuple[nn.Module, nn.Module | None]] = []
    whole: list[tuple[nn.Module, Any]] = []
    for module in [*model.modules()]:
        conv, bn = module._modules.get("conv"), module._modules.get("bn")
        if isinstance(conv, Wrapper | Inserted) and bn is not None:
            hidden.append((module, module._modules.pop("bn")))
        inside = any(isinstance(part, Wrapper | Inserted) for part in module.modules())
        # What adds up parallel convolutions.
        if inside and hasattr(type(module), "forward_fuse") and bn is None:
            whole.append((module, module.__dict__.get("forward")))
            for name in {"fuse", "fuse_convs"} & {*dir(type(module))}:
                module.__dict__[name] = lambda: None
    yield
    for module, bn in hidden:
        module._modules["bn"] = bn
    for module, forward in whole:
        for name in ("fuse", "fuse_convs", "forward"):
            module.__dict__.pop(name, None)
        if forward is not None:
            module.__dict__["forward"] = forward


def _spare_gates(build: Callable[..., Any], trainer: Any, model: Any, *args: Any, **kw: Any) -> Any:
    """Build an optimizer, without weight decay for the gates and biases of attention."""
    optimizer = build(trainer, model, *args, **kw)
    spared = {id(p) for p in attention_parameters(model) if p.dim() < 2}
    groups = optimizer.param_groups
    without = [group for group in groups if not group.get("weight_decay")]
    if not spared or not without:
        return optimizer
    # Of several groups, biases may have one with a learning rate of its own.
    target = min(without, key=lambda group: "bias" in str(group.get("param_group", "")))
    for group in groups:
        if group.get("weight_decay"):
            moved = [p for p in group["params"] if id(p) in spared]
            group["params"] = [p for p in group["params"] if id(p) not in spared]
            target["params"] += moved
    return optimizer


def names() -> list[str]:
    """Return the names of models that are built from the YAML files of ultralytics."""
    import ultralytics

    files = (Path(str(ultralytics.__file__)).parent / "cfg" / "models").rglob("*.yaml")
    found = set()
    for file in files:
        scales = re.findall(r"^\s+([nstmblx]):\s*\[", file.read_text("utf-8"), re.MULTILINE)
        stem = file.stem
        family, dash, task = stem.partition("-")
        named = family[-1:].isdigit() and scales
        found |= {f"{family}{scale}{dash}{task}" for scale in scales} if named else {stem}
    return sorted(found)


def build(name: str, *, pretrained: bool = False, **more: Any) -> nn.Module:
    """Return the module of a model, such as ``yolov8n`` or ``yolo11n-seg``.

    Args:
        name: One of `names`.
        pretrained: Whether its weights are downloaded.
        more: ``num_classes``.
    """
    import ultralytics

    cls = ultralytics.RTDETR if name.startswith("rtdetr") else ultralytics.YOLO  # type: ignore[attr-defined]  # loaded lazily
    model = cls(f"{name}.pt" if pretrained else f"{name}.yaml").model
    if classes := more.pop("num_classes", None):
        model = type(model)(cfg=model.yaml, nc=classes, verbose=False)
    if more:
        raise TypeError(f"{name}: no option {next(iter(more))!r}")
    return model
