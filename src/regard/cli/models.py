"""Models on the command line: their names, options and inputs."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..catalog import Entry, entries, show
from ..core.shapes import expand, split

if TYPE_CHECKING:
    from torch import nn

IMAGE = (1, 3, 224, 224)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LIBRARIES = ("timm", "torchvision", "ultralytics", "transformers")
YOLOS = ("yolo", "rtdetr-")  # with which the names of ultralytics begin, and none of timm
FEATURES = {"b": 1, "c": 256, "d": 256, "t": 8, "h": 14, "w": 14, "l": 196, "n": 196}


def options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read ``name=value`` pairs; values are Python literals, or else text.

    >>> options(["reduction=4", "bias=True", "pools=('mean',)", "form=dot"])
    {'reduction': 4, 'bias': True, 'pools': ('mean',), 'form': 'dot'}
    >>> options(["reduction"])
    Traceback (most recent call last):
    ValueError: --set takes name=value, got "reduction"
    """
    read = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name.isidentifier() or not equals:
            raise ValueError(f'--set takes name=value, got "{pair}"')
        try:
            read[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            read[name] = value
    return read


def sizes(text: str, option: str) -> tuple[int, ...]:
    """Read positive integers that are separated by commas or crosses.

    >>> sizes("1,3,224,224", "--input"), sizes("128x96", "--input")
    ((1, 3, 224, 224), (128, 96))
    >>> sizes("1,3,-2", "--input")
    Traceback (most recent call last):
    ValueError: --input takes sizes above zero such as 1,3,224,224, got "1,3,-2"
    """
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ValueError(f'{option} takes sizes above zero such as 1,3,224,224, got "{text}"')
    return tuple(map(int, parts))


def device(name: str | None) -> str | None:
    """Return the name of a device that torch can use.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        return None
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'no device "{name}" here: {error}') from None
    return name


def entry_of(name: str) -> Entry | None:
    """Return the mechanism of that name, or None."""
    wanted = name.strip().lower().replace("-", "_")
    known = any(wanted in entry.names for entry in entries().values())
    return show(name) if known else None


def mechanism(
    entry: Entry, channels: int | None, shape: tuple[int, ...] | None, options: Mapping[str, Any]
) -> tuple[nn.Module, tuple[int, ...]]:
    """Create a mechanism, and infer its channels or the shape of its input where one is None.

    Raises:
        ValueError: an argument without a default is missing.
    """
    from ..factory import create

    axes = next(iter(split(entry.axes.input).values()))
    letters = expand(axes, len(shape) if shape else 4).split()
    if channels is None:
        named = zip(letters, shape or (), strict=False)
        channels = next((size for letter, size in named if letter in "cd"), FEATURES["c"])
    needed = [option.name for option in entry.options if option.default is None]
    widths = [name for name in needed if name.endswith(("channels", "embed_dim"))][:1]
    arguments = {**dict.fromkeys(widths, channels), **options}
    if missing := [name for name in needed if name not in arguments]:
        raise ValueError(f"{entry.key} needs {' '.join(f'--set {name}=…' for name in missing)}")
    if shape is None:
        width = next((arguments[name] for name in widths), channels)
        chosen = FEATURES | {"c": width, "d": width}
        shape = tuple(int(s) if s.isdigit() else chosen.get(s, FEATURES["h"]) for s in letters)
    return create(entry.key, **arguments), shape


def network(name: str, *, pretrained: bool = False, **more: Any) -> nn.Module:
    """Build a model of timm, or of the library whose name and a slash it begins with.

    Names of ultralytics, such as ``yolov8n``, need no library.

    Raises:
        ValueError: there is no such model.
        ImportError: the library is not installed.
    """
    library, slash, stem = name.partition("/")
    if slash and library not in LIBRARIES:
        known = ", ".join(f"{one}/…" for one in LIBRARIES)
        raise ValueError(f'no library "{library}"; there are {known}')
    if not slash:
        library, stem = "timm", name
    if library == "torchvision":
        return _of_torchvision(stem, pretrained, more)
    if library == "transformers":
        return _of_transformers(stem, pretrained, more)
    if library == "ultralytics" or stem.startswith(YOLOS):
        return _of_ultralytics(stem, pretrained, more)
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'"{name}" needs timm: pip install "regard[vision]"') from error
    if not timm.is_model(stem.partition(".")[0]):
        raise _unknown(name, stem, timm.list_models())
    return timm.create_model(stem, pretrained=pretrained, **more)


def image_shape(network: nn.Module) -> tuple[int, ...]:
    """Return the shape of one image of the model's default size."""
    cfg = getattr(network, "pretrained_cfg", None) or {}
    if "input_size" in cfg:
        return (1, *cfg["input_size"])
    if is_yolo(network):
        return (1, getattr(network, "yaml", {}).get("channels", 3), 640, 640)
    config = getattr(network, "config", None)
    channels = getattr(config, "num_channels", None) or IMAGE[1]
    size = getattr(config, "image_size", None)
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return (1, channels, height or IMAGE[2], width or IMAGE[3])


def preprocessing(network: nn.Module) -> dict[str, Any]:
    """Return the mean, the deviation and the size of the images that a model was trained with."""
    shape = image_shape(network)[1:]
    if is_yolo(network):
        return {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": shape}
    return {**IMAGENET, "input_size": shape, **(getattr(network, "pretrained_cfg", None) or {})}


def is_yolo(network: nn.Module) -> bool:
    """Return whether a model is of ultralytics."""
    return any(cls.__module__.startswith("ultralytics.") for cls in type(network).__mro__)


def _of_ultralytics(stem: str, pretrained: bool, more: Mapping[str, Any]) -> nn.Module:
    from ..hosts import ultralytics

    try:
        known = ultralytics.names()
    except ImportError as error:
        raise ImportError(
            f'"{stem}" needs ultralytics: pip install ultralytics (its license is the AGPL-3.0)'
        ) from error
    if stem not in known:
        raise _unknown(stem, stem, known)
    return ultralytics.build(stem, pretrained=pretrained, **more)


def _of_transformers(stem: str, pretrained: bool, more: Mapping[str, Any]) -> nn.Module:
    from ..hosts import transformers

    try:
        known = transformers.names()
    except ImportError as error:
        raise ImportError(f'"{stem}" needs transformers: pip install transformers') from error
    if "/" not in stem and stem not in known:
        raise _unknown(f"transformers/{stem}", stem, known)
    return transformers.build(stem, pretrained=pretrained, **more)


def _of_torchvision(stem: str, pretrained: bool, more: Mapping[str, Any]) -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError(f'"{stem}" needs torchvision: pip install "regard[vision]"') from error
    if stem not in models.list_models():
        raise _unknown(f"torchvision/{stem}", stem, models.list_models())
    return models.get_model(stem, weights="DEFAULT" if pretrained else None, **more)


def _unknown(name: str, stem: str, known: Sequence[str]) -> ValueError:
    close = get_close_matches(stem, known, n=3)
    hint = "write a name of timm, torchvision/name, or a mechanism that `regard list` shows"
    if close:
        hint = "did you mean " + " or ".join(f'"{one}"' for one in close) + "?"
    return ValueError(f'no model "{name}"; {hint}')
