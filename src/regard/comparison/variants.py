"""The models that are compared: one backbone, with and without attention."""

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
    """One row of the comparison.

    Attributes:
        label: What it is called, as it was asked for.
        mechanism: Key of its attention, or its class; None for the baseline.
        options: Those of the attention.
        control: It has as many parameters as this attention, but none of its mathematics.
    """

    label: str
    mechanism: str | type[Mechanism] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    control: bool = False

    @property
    def key(self) -> str:
        """Its name in the ledger: the same however the attention was spelled."""
        if self.mechanism is None:
            return BASELINE
        name = self.mechanism
        if not isinstance(name, str):
            name = f"{name.__module__}.{name.__qualname__}"
        given = ",".join(f"{name}={value!r}" for name, value in sorted(self.options.items()))
        key = f"{name}({given})" if given else name
        return f"control({key})" if self.control else key


def parse(attention: str | type[Mechanism] | Sequence[str | type[Mechanism]]) -> list[Variant]:
    """Read what is to be compared; the baseline is always the first.

    Args:
        attention: Names, with options in brackets, separated by commas or in a sequence, which may
            hold classes of your own as well.

    Raises:
        ValueError: a name is unknown, an option is no literal, or two of them mean the same.

    >>> [v.key for v in parse("se, cbam(reduction=4, kernel_size=3)")]
    ['none', 'squeeze_excitation', 'cbam(kernel_size=3,reduction=4)']
    >>> parse("se,senet")
    Traceback (most recent call last):
    ValueError: "se" and "senet" are the same: squeeze_excitation
    """
    asked = attention if isinstance(attention, Sequence) else [attention]
    texts = [attention] if isinstance(attention, str) else asked
    found = {BASELINE: Variant(BASELINE)}
    for variant in (variant for one in texts for variant in _variants(one)):
        if (twin := found.get(variant.key)) and variant.mechanism:
            raise ValueError(f'"{twin.label}" and "{variant.label}" are the same: {variant.key}')
        found[variant.key] = variant
    return list(found.values())


def _variants(asked: str | type[Mechanism]) -> list[Variant]:
    if isinstance(asked, type) and issubclass(asked, Mechanism):
        return [Variant(asked.__name__, asked)]
    if not isinstance(asked, str):
        raise TypeError(f"attention: expected names or Mechanism classes, got {asked!r}")
    return [_variant(text.strip()) for text in _parts(asked)]


def _parts(text: str) -> list[str]:
    """Split at the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _variant(text: str) -> Variant:
    if not text:
        raise ValueError("attention: a name is empty; wanted are names separated by commas")
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
                f'cannot read "{text}"; wanted is a name with options, such as cbam(reduction=4)'
            ) from None
    return Variant(text, mechanism, options)


def check_backbone(name: str) -> None:
    """Refuse a backbone that neither timm nor torchvision has.

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


def backbone(recipe: Recipe, seed: int) -> nn.Module:
    """Build the backbone with the weights that this seed draws.

    Raises:
        ValueError: it does not take such images, or does not classify.
    """
    import timm
    from torchvision import models

    library, _, name = recipe.backbone.rpartition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if library:
            return models.get_model(name, weights=None, num_classes=recipe.classes)
        cfg = timm.get_pretrained_cfg(name)
        sized = {"img_size": recipe.size} if cfg and cfg.fixed_input_size else {}
        return timm.create_model(
            name, num_classes=recipe.classes, in_chans=recipe.channels, **sized
        )


def build(variant: Variant, recipe: Recipe, seed: int) -> tuple[nn.Module, str]:
    """Build a variant: the backbone of this seed, bit for bit, with the attention drawn after it.

    Returns:
        The model, and a checksum of the weights of its backbone.

    Raises:
        ValueError: the attention does not fit the backbone.
        TypeError: it has no such option.
    """
    from ..surgery import insert

    plain = model = backbone(recipe, seed)
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
                for name, mechanism in inserted(model):
                    model.set_submodule(name, adapter(mechanism))
        model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    return model, checksum([state[name] for name in weights])


def inserted(model: nn.Module) -> list[tuple[str, Mechanism]]:
    """The attentions of a model, by their places; what is inside of one is a part of it."""
    found: list[tuple[str, Mechanism]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, Mechanism) and not inside:
            found.append((name, module))
    return found


class Adapter(Mechanism):
    r"""As many parameters as an attention, and nothing of it: :math:`y = x + W_2\,\delta(W_1 x)`.

    A bottleneck of two 1x1 convolutions that reads one position at a time and gates nothing. What
    an attention gains and this does not is not gained by parameters alone.

    Args:
        axes: Those of the attention.
        channels: Channels of its input.
        hidden_dim: Channels between the two; with 0 it returns its input.

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
        """Run the adapter."""
        if not self.hidden_dim:
            return x
        z = x.movedim(self.axis, -1)
        return x + self.expand(self.squeeze(z).relu()).movedim(-1, self.axis)


def adapter(mechanism: Mechanism) -> Adapter:
    """The adapter whose number of parameters is nearest to an attention's: none may be."""
    sizes = mechanism.fixed_axes
    channels = sizes.get("c", sizes.get("d", 0))
    hidden_dim = round(parameters(mechanism) / (2 * channels)) if channels else 0
    return Adapter(mechanism.axes, channels, hidden_dim)


def parameters(*modules: nn.Module) -> int:
    """How many numbers they learn."""
    return sum(p.numel() for module in modules for p in module.parameters())


def control_of(models: Mapping[Variant, nn.Module]) -> Variant | None:
    """The control of the attention with the most parameters.

    None where all attentions have fewer than the narrowest adapter would: so few that nobody asks
    whether it is they that explain a gain.
    """
    variant, model = max(models.items(), key=lambda pair: parameters(pair[1]))
    if not any(parameters(adapter(mechanism)) for _, mechanism in inserted(model)):
        return None
    return replace(variant, label=f"control ({variant.label})", control=True)


def checksum(tensors: Iterable[Tensor]) -> str:
    """A number that other weights would not have."""
    total = 0
    for x in tensors:
        total = zlib.crc32(x.detach().cpu().contiguous().numpy().tobytes(), total)
    return f"{total:08x}"
