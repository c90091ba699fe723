"""The models to compare: one backbone, with and without attention."""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from ..catalog import resolve
from ..core.attention import Mechanism
from ..core.axes import Axes
from .training import Recipe

BASELINE = "none"


@dataclass(frozen=True, eq=False)
class Variant:
    """One of the models to compare.

    Attributes:
        label: Name to show, as the caller wrote it.
        mechanism: Key or class of the attention; None for the baseline.
        options: Options of the attention.
        control: Whether to replace the attention by a plain bottleneck with as many parameters.
    """

    label: str
    mechanism: str | type[Mechanism] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    control: bool = False

    @property
    def key(self) -> str:
        """Name in the results log, which does not depend on the spelling of the attention."""
        if self.mechanism is None:
            return BASELINE
        name = self.mechanism
        if not isinstance(name, str):
            name = f"{name.__module__}.{name.__qualname__}"
        options = ",".join(f"{name}={value!r}" for name, value in sorted(self.options.items()))
        key = f"{name}({options})" if options else name
        return f"control({key})" if self.control else key


def parse(attention: str | type[Mechanism] | Sequence[str | type[Mechanism]]) -> list[Variant]:
    """Parse the attentions to compare; the baseline is always the first variant.

    Args:
        attention: Names with options in brackets, separated by commas or in a sequence, which may
            also include classes of your own.

    Raises:
        ValueError: a name is unknown, an option is not a literal, or two variants are equal.

    >>> [v.key for v in parse("se, cbam(reduction=4, kernel_size=3)")]
    ['none', 'squeeze_excitation', 'cbam(kernel_size=3,reduction=4)']
    >>> parse("se,senet")
    Traceback (most recent call last):
    ValueError: "se" and "senet" are the same: squeeze_excitation
    """
    if isinstance(attention, str) or not isinstance(attention, Sequence):
        attention = [attention]
    found = {BASELINE: Variant(BASELINE)}
    for variant in (variant for item in attention for variant in _parse_item(item)):
        if (same := found.get(variant.key)) and variant.mechanism:
            raise ValueError(f'"{same.label}" and "{variant.label}" are the same: {variant.key}')
        found[variant.key] = variant
    return list(found.values())


def _parse_item(item: str | type[Mechanism]) -> list[Variant]:
    if isinstance(item, type) and issubclass(item, Mechanism):
        return [Variant(item.__name__, item)]
    if not isinstance(item, str):
        raise TypeError(f"attention: expected names or Mechanism classes, got {item!r}")
    return [_parse_name(text.strip()) for text in _split_at_commas(item)]


def _split_at_commas(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _parse_name(text: str) -> Variant:
    """Parse a name with options in brackets."""
    if not text:
        raise ValueError("attention: expected names separated by commas, got an empty name")
    if text.lower() == BASELINE:
        return Variant(BASELINE)
    name, bracket, _ = text.partition("(")
    mechanism, options = resolve(name), {}
    if bracket:
        try:
            call = ast.parse(f"f({text[len(name) + 1 :]}", mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                raise ValueError
            options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        except (SyntaxError, ValueError):
            raise ValueError(
                f'cannot parse "{text}"; expected a name with options, such as cbam(reduction=4)'
            ) from None
    return Variant(text, mechanism, options)


def check_backbone(name: str) -> None:
    """Raise ValueError if neither timm nor torchvision has the backbone.

    >>> check_backbone("resnet81")
    Traceback (most recent call last):
    ValueError: no backbone "resnet81"; close are resnet18, ... (names are those of timm, or ...)
    """
    import timm
    from torchvision import models

    library, slash, model = name.rpartition("/")
    known = models.list_models(module=models) if library == "torchvision" else timm.list_models()
    if model not in known or (slash and library != "torchvision"):
        close = get_close_matches(model, known, n=5)
        hint = f"; close are {', '.join(close)}" if close else ""
        raise ValueError(
            f'no backbone "{name}"{hint} (names are those of timm, or torchvision/resnet18)'
        )


def build_backbone(recipe: Recipe, seed: int) -> nn.Module:
    """Build the backbone with the initial weights of this seed.

    Raises:
        ValueError: the backbone does not take such images, or is not a classifier.
    """
    import timm
    from torchvision import models

    library, _, name = recipe.backbone.rpartition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if library:
            return models.get_model(name, weights=None, num_classes=recipe.classes)
        cfg = timm.get_pretrained_cfg(name)
        options = {"img_size": recipe.size} if cfg and cfg.fixed_input_size else {}
        return timm.create_model(
            name, num_classes=recipe.classes, in_chans=recipe.channels, **options
        )


def build(variant: Variant, recipe: Recipe, seed: int) -> tuple[nn.Module, str]:
    """Build a variant: the backbone of this seed with unchanged weights, and its attention.

    Returns:
        The model, and a checksum of the weights of its backbone.

    Raises:
        ValueError: the attention does not fit the backbone.
        TypeError: the attention does not have the option.
    """
    from ..surgery import insert

    plain = model = build_backbone(recipe, seed)
    weights = {name: value.clone() for name, value in plain.state_dict().items()}
    if variant.mechanism is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = insert(
                    plain,
                    variant.mechanism,
                    at=recipe.at,
                    start=recipe.start,
                    example_input=torch.zeros(2, recipe.channels, recipe.size, recipe.size),
                    **variant.options,
                )
            except (ValueError, TypeError) as e:
                raise type(e)(f"{variant.label} in {recipe.backbone}: {e}") from None
            if variant.control:
                for name, mechanism in inserted_mechanisms(model):
                    model.set_submodule(name, make_adapter(mechanism))
        model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    return model, checksum([state[name] for name in weights])


def inserted_mechanisms(model: nn.Module) -> list[tuple[str, Mechanism]]:
    """Return the names and attentions of a model, without those that are part of another."""
    found: list[tuple[str, Mechanism]] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, Mechanism) and not nested:
            found.append((name, module))
    return found


class Adapter(Mechanism):
    r"""A bottleneck with as many parameters as an attention: :math:`y = x + W_2\,\delta(W_1 x)`.

    It consists of two 1x1 convolutions, so it does not combine positions and has no gate. An
    attention with a larger gain does not owe it to its number of parameters alone.

    Args:
        axes: Axes of the attention.
        channels: Channels of the input.
        hidden_dim: Channels between the two convolutions; with 0 the output is the input.

    >>> Adapter(Axes(), 16, 2)(torch.randn(2, 16, 5, 3)).shape
    torch.Size([2, 16, 5, 3])
    """

    def __init__(self, axes: Axes, channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.axes = axes
        self.axis = 1 if "c" in axes.input.split() else 2
        if hidden_dim:
            self.squeeze = nn.Linear(channels, hidden_dim, bias=False)
            self.expand = nn.Linear(hidden_dim, channels, bias=False)
        self.hidden_dim = hidden_dim

    def forward(self, x: Tensor) -> Tensor:
        """Add the bottleneck's output to the input."""
        if not self.hidden_dim:
            return x
        z = x.movedim(self.axis, -1)
        return x + self.expand(self.squeeze(z).relu()).movedim(-1, self.axis)


def make_adapter(mechanism: Mechanism) -> Adapter:
    """Return the adapter whose number of parameters, possibly 0, is nearest to an attention's."""
    sizes = mechanism.fixed_axes
    channels = sizes.get("c", sizes.get("d", 0))
    hidden_dim = round(count_parameters(mechanism) / (2 * channels)) if channels else 0
    return Adapter(mechanism.axes, channels, hidden_dim)


def count_parameters(*modules: nn.Module) -> int:
    """Return the number of parameters of the modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


def make_control(models: Mapping[Variant, nn.Module]) -> Variant | None:
    """Return the control of the attention with the most parameters.

    Return None if all attentions have fewer parameters than the narrowest adapter: so few cannot
    explain a gain.
    """
    variant, model = max(models.items(), key=lambda pair: count_parameters(pair[1]))
    adapters = [make_adapter(mechanism) for _, mechanism in inserted_mechanisms(model)]
    if not count_parameters(*adapters):
        return None
    return replace(variant, label=f"control ({variant.label})", control=True)


def checksum(tensors: Iterable[Tensor]) -> str:
    """Return a checksum of the values."""
    total = 0
    for x in tensors:
        total = zlib.crc32(x.detach().cpu().contiguous().numpy().tobytes(), total)
    return f"{total:08x}"
