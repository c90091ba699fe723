"""Segmentation heads: attention between the features of an encoder and the scores.

A head is a module that maps features ``b c h w`` to scores ``b k h w``, or to a tuple of them and
of outputs that only the loss uses. `HEADS` describes each as data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ..core.check import divides, positive, probability
from ..factory import create


@dataclass(frozen=True)
class HeadSpec:
    """The layers of a head; their widths are in eighths of the channels of the features.

    Attributes:
        mechanism: Key of the mechanism, or ``key.Class`` for another class of its file; none if
            empty.
        complete: Whether that class is a whole head, which needs no layers around it.
        kernel_size: Kernel size of the convolution before the attention; none if 0.
        in_width: Input width of the attention.
        out_width: Output width of the attention.
        repeat: Number of attentions in sequence.
        after_width: Width of the convolution after them; none if 0.
        concat: Concatenate the features and the result, and convolve both.
        options: Options of the mechanism.
        width_options: Options of the mechanism that are widths.
        outputs: Names of the outputs: ``scores`` first, then other scores ``b k h w``, or
            ``presence`` ``b k``, the scores of the classes being anywhere in the image.
    """

    mechanism: str
    complete: bool = False
    kernel_size: int = 3
    in_width: int = 2
    out_width: int = 2
    repeat: int = 1
    after_width: int = 0
    concat: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    width_options: Mapping[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("scores",)


HEADS: dict[str, HeadSpec] = {
    "ccnet": HeadSpec(
        "criss_cross.CrissCrossHead", complete=True, width_options={"out_channels": 2}
    ),
    "danet": HeadSpec(
        "dual_attention.DualAttentionHead", complete=True, outputs=("scores", "position", "channel")
    ),
    "eanet": HeadSpec("external_attention", after_width=1, options={"form": "block"}),
    "emanet": HeadSpec("expectation_maximization", after_width=1),
    "encnet": HeadSpec("context_encoding", outputs=("scores", "presence")),
    "fcn": HeadSpec(""),
    "gcnet": HeadSpec("global_context", after_width=2, concat=True, options={"reduction": 4}),
    "nonlocal": HeadSpec("non_local", after_width=2, concat=True, options={"subsample": None}),
    "ocnet": HeadSpec("object_context"),
    "ocnet_asp": HeadSpec(
        "object_context.AtrousObjectContext",
        kernel_size=0,
        in_width=8,
        out_width=4,
        width_options={"hidden_dim": 2},
    ),
    "ocnet_pyramid": HeadSpec("object_context.PyramidObjectContext"),
    "psanet": HeadSpec("pointwise_spatial", kernel_size=0, in_width=8, out_width=16, after_width=2),
    "sanet": HeadSpec(
        "squeeze_attention", kernel_size=0, in_width=8, width_options={"out_channels": 2}
    ),
    "spnet": HeadSpec(
        "strip_pooling.MixedPooling",
        kernel_size=1,
        in_width=4,
        out_width=4,
        repeat=2,
        after_width=2,
    ),
}


def head(
    name: str, in_channels: int, num_classes: int, *, dropout: float = 0.1, **options: Any
) -> nn.Module:
    """Build a segmentation head.

    ``fcn`` has no attention. ``sanet`` is one of the three heads of the paper's network, which are
    at different depths. ``spnet`` is only the head of the paper's network, whose encoder also has
    strip pooling, for `regard.insert`.

    Args:
        name: One of `HEADS`.
        in_channels: Channels of the features, a multiple of 8.
        num_classes: Number of classes.
        dropout: Dropout rate of whole channels before the classifier.
        options: Options of the mechanism.

    Returns:
        A module from features ``b c h w`` to scores ``b k h w``, or to a tuple of the
        outputs that its `HeadSpec` names.

    Raises:
        ValueError: no head has this name, or a size is invalid.
        TypeError: the mechanism has no such option.

    >>> head("emanet", 64, 5, num_bases=8)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 5, 9, 7])
    >>> head("danet", 64, 5)(torch.randn(2, 64, 9, 7))[0].shape
    torch.Size([2, 5, 9, 7])
    """
    spec = head_spec(name)
    if not spec.complete:
        return AttentionHead(in_channels, num_classes, spec, dropout=dropout, options=options)
    divides(in_channels=in_channels, eighths=8)
    widths = {option: eighths * in_channels // 8 for option, eighths in spec.width_options.items()}
    options = {"num_classes": num_classes, "dropout": dropout, **widths, **spec.options, **options}
    return _build_mechanism(spec.mechanism, in_channels, options)


def head_spec(name: str) -> HeadSpec:
    """Return the description of a head.

    Raises:
        ValueError: no head has this name.

    >>> head_spec("dannet")
    Traceback (most recent call last):
    ValueError: no head "dannet"; did you mean "danet"?
    """
    if name not in HEADS:
        close = get_close_matches(name, HEADS, n=1)
        hint = f'did you mean "{close[0]}"?' if close else "there are " + ", ".join(HEADS)
        raise ValueError(f'no head "{name}"; {hint}')
    return HEADS[name]


class AttentionHead(nn.Module):
    r"""Scores the classes at each position by features to which attention is applied.

    .. math::
        y = W F_3 \big[x;\, F_2 A(F_1 x)\big]

    where each :math:`F` is a convolution with batch norm and ReLU; ``spec`` decides which of them
    exist.

    Args:
        in_channels: Channels of the features, a multiple of 8.
        num_classes: :math:`k`.
        spec: The layers of the head.
        dropout: Dropout rate of whole channels before the classifier.
        options: Options of the mechanism, which override those of ``spec``.

    Shape:
        x ``b c h w``, the scores ``b k h w``; if ``spec`` names it, also the presence ``b k``.

    Raises:
        ValueError: a size is invalid, or the dropout is not a rate.
        TypeError: the mechanism has no such option.

    >>> AttentionHead(64, 5, HeadSpec("global_context", concat=True))(
    ...     torch.randn(2, 64, 9, 7)
    ... ).shape
    torch.Size([2, 5, 9, 7])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spec: HeadSpec,
        *,
        dropout: float = 0.1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        positive(num_classes=num_classes)
        divides(in_channels=in_channels, eighths=8)
        probability(dropout=dropout)
        eighth = in_channels // 8
        width = spec.in_width * eighth
        self.before: nn.Module = nn.Identity()
        if spec.kernel_size:
            self.before = conv_norm_relu(in_channels, width, spec.kernel_size)
        arguments = {option: eighths * eighth for option, eighths in spec.width_options.items()}
        arguments |= {"num_classes": num_classes} if "presence" in spec.outputs else {}
        arguments |= {**spec.options, **(options or {})}
        self.attention: nn.Module = nn.Identity()
        if spec.mechanism:
            layers = [
                _build_mechanism(spec.mechanism, width, arguments) for _ in range(spec.repeat)
            ]
            self.attention = nn.Sequential(*layers) if spec.repeat > 1 else layers[0]
            width = spec.out_width * eighth
        elif arguments:
            raise TypeError(f"a head without attention has no option {', '.join(arguments)}")
        self.after: nn.Module = nn.Identity()
        if spec.after_width:
            self.after = conv_norm_relu(width, spec.after_width * eighth)
            width = spec.after_width * eighth
        self.join = conv_norm_relu(in_channels + width, width) if spec.concat else None
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Score each class at each position, and its presence if the attention returns it."""
        y, *presence = _as_tuple(self.attention(self.before(x)))
        y = self.after(y)
        if self.join is not None:
            y = self.join(torch.cat([x, y], 1))
        scores = self.classify(self.drop(y))
        return (scores, *presence) if presence else scores


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Sequential:
    """Return a convolution with batch norm and ReLU that keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _build_mechanism(mechanism: str, width: int, options: Mapping[str, Any]) -> nn.Module:
    key, _, cls = mechanism.partition(".")
    if not cls:
        return create(key, width, **options)
    return getattr(import_module(f"regard.mechanisms.{key}"), cls)(width, **options)


def _as_tuple(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return y if isinstance(y, tuple) else (y,)
