"""Segmentation heads: attention between the features of an encoder and the class of each place.

A head is a module that takes features ``b c h w`` and gives scores ``b k h w``, or a tuple of them
and of more that only the loss reads. `HEADS` says as data how each is made.
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
class Recipe:
    """What a head is made of; its widths are eighths of the channels that it gets.

    Attributes:
        mechanism: Its key, or ``key.Class`` for another class of that file; none if empty.
        whole: Whether that class is a head already, so that nothing is put around it.
        kernel_size: Side of the convolution before the attention; there is none if 0.
        enters: Width that the attention sees.
        leaves: Width that it gives.
        repeat: How many attentions follow each other.
        after: Width of the convolution behind them; there is none if 0.
        join: Put the features beside the result, and convolve both.
        options: Options of the mechanism.
        sized: Options of the mechanism that are widths, too.
        gives: What the head gives, by name: ``scores`` first, then other scores ``b k h w``, or
            ``presence`` ``b k``, which tells the classes that are anywhere.
    """

    mechanism: str
    whole: bool = False
    kernel_size: int = 3
    enters: int = 2
    leaves: int = 2
    repeat: int = 1
    after: int = 0
    join: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    sized: Mapping[str, int] = field(default_factory=dict)
    gives: tuple[str, ...] = ("scores",)


HEADS: dict[str, Recipe] = {
    "ccnet": Recipe("criss_cross.CrissCrossHead", whole=True, sized={"out_channels": 2}),
    "danet": Recipe(
        "dual_attention.DualAttentionHead", whole=True, gives=("scores", "position", "channel")
    ),
    "eanet": Recipe("external_attention", after=1, options={"form": "block"}),
    "emanet": Recipe("expectation_maximization", after=1),
    "encnet": Recipe("context_encoding", gives=("scores", "presence")),
    "fcn": Recipe(""),
    "gcnet": Recipe("global_context", after=2, join=True, options={"reduction": 4}),
    "nonlocal": Recipe("non_local", after=2, join=True, options={"subsample": None}),
    "ocnet": Recipe("object_context"),
    "ocnet_asp": Recipe(
        "object_context.AtrousObjectContext",
        kernel_size=0,
        enters=8,
        leaves=4,
        sized={"hidden_dim": 2},
    ),
    "ocnet_pyramid": Recipe("object_context.PyramidObjectContext"),
    "psanet": Recipe("pointwise_spatial", kernel_size=0, enters=8, leaves=16, after=2),
    "sanet": Recipe("squeeze_attention", kernel_size=0, enters=8, sized={"out_channels": 2}),
    "spnet": Recipe(
        "strip_pooling.MixedPooling", kernel_size=1, enters=4, leaves=4, repeat=2, after=2
    ),
}


def head(
    name: str, in_channels: int, num_classes: int, *, dropout: float = 0.1, **options: Any
) -> nn.Module:
    """Make a segmentation head.

    ``fcn`` has no attention. ``sanet`` is one of the paper's heads, which has three, at different
    depths. ``spnet`` is the half of the paper that is a head: the other is strip pooling inside the
    encoder, for `regard.insert`.

    Args:
        name: One of `HEADS`.
        in_channels: Channels of the features, a multiple of 8.
        num_classes: How many classes there are.
        dropout: Rate of dropping whole channels before the classifier.
        options: Options of the mechanism.

    Returns:
        A module from features ``b c h w`` to scores ``b k h w``, or to a tuple of them and what
        else the recipe's ``gives`` names.

    Raises:
        ValueError: no head is called so, or a size is refused.
        TypeError: the mechanism has no such option.

    >>> head("emanet", 64, 5, num_bases=8)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 5, 9, 7])
    >>> head("danet", 64, 5)(torch.randn(2, 64, 9, 7))[0].shape
    torch.Size([2, 5, 9, 7])
    """
    recipe = recipe_of(name)
    if not recipe.whole:
        return AttentionHead(in_channels, num_classes, recipe, dropout=dropout, options=options)
    divides(in_channels=in_channels, eighths=8)
    widths = {option: eighths * in_channels // 8 for option, eighths in recipe.sized.items()}
    given = {"num_classes": num_classes, "dropout": dropout, **widths, **recipe.options, **options}
    return _make(recipe.mechanism, in_channels, given)


def recipe_of(name: str) -> Recipe:
    """The recipe of a head.

    Raises:
        ValueError: no head is called so.

    >>> recipe_of("dannet")
    Traceback (most recent call last):
    ValueError: no head "dannet"; did you mean "danet"?
    """
    if name not in HEADS:
        close = get_close_matches(name, HEADS, n=1)
        hint = f'did you mean "{close[0]}"?' if close else "there are " + ", ".join(HEADS)
        raise ValueError(f'no head "{name}"; {hint}')
    return HEADS[name]


class AttentionHead(nn.Module):
    r"""Scores the classes of each place by features seen through attention.

    .. math::
        y = W F_3 \big[x;\, F_2 A(F_1 x)\big]

    where each :math:`F` is a convolution with batch norm and ReLU; the recipe says which of them
    there are.

    Args:
        in_channels: Channels of the features, a multiple of 8.
        num_classes: :math:`k`.
        recipe: What the head is made of.
        dropout: Rate of dropping whole channels before the classifier.
        options: Options of the mechanism, before which those of the recipe give way.

    Shape:
        x ``b c h w``, the scores ``b k h w``; where the recipe gives it, also the presence ``b k``.

    Raises:
        ValueError: a size is refused, or the dropout is not a rate.
        TypeError: the mechanism has no such option.

    >>> AttentionHead(64, 5, Recipe("global_context", join=True))(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 5, 9, 7])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        recipe: Recipe,
        *,
        dropout: float = 0.1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        positive(num_classes=num_classes)
        divides(in_channels=in_channels, eighths=8)
        probability(dropout=dropout)
        eighth = in_channels // 8
        width = recipe.enters * eighth
        self.before: nn.Module = nn.Identity()
        if recipe.kernel_size:
            self.before = convolve(in_channels, width, recipe.kernel_size)
        given = {option: eighths * eighth for option, eighths in recipe.sized.items()}
        given |= {"num_classes": num_classes} if "presence" in recipe.gives else {}
        given |= {**recipe.options, **(options or {})}
        self.attention: nn.Module = nn.Identity()
        if recipe.mechanism:
            layers = [_make(recipe.mechanism, width, given) for _ in range(recipe.repeat)]
            self.attention = nn.Sequential(*layers) if recipe.repeat > 1 else layers[0]
            width = recipe.leaves * eighth
        elif given:
            raise TypeError(f"a head without attention has no option {', '.join(given)}")
        self.after: nn.Module = nn.Identity()
        if recipe.after:
            self.after = convolve(width, recipe.after * eighth)
            width = recipe.after * eighth
        self.join = convolve(in_channels + width, width) if recipe.join else None
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Score each class at each position, and its presence where the attention tells it."""
        y, *presence = _several(self.attention(self.before(x)))
        y = self.after(y)
        if self.join is not None:
            y = self.join(torch.cat([x, y], 1))
        scores = self.classify(self.drop(y))
        return (scores, *presence) if presence else scores


def convolve(before: int, after: int, kernel_size: int = 3) -> nn.Sequential:
    """A convolution with batch norm and ReLU that keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def _make(mechanism: str, width: int, options: Mapping[str, Any]) -> nn.Module:
    key, _, other = mechanism.partition(".")
    if not other:
        return create(key, width, **options)
    return getattr(import_module(f"regard.mechanisms.{key}"), other)(width, **options)


def _several(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return y if isinstance(y, tuple) else (y,)
