"""Recurrent attention: a network that sees a few small glimpses, and chooses where the next is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, mse_loss

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, positive
from ..core.tracing import leaf


class Step(NamedTuple):
    """What one glimpse gives.

    Attributes:
        state: The state of the core, ``b d``.
        mean: Where the next glimpse should be, ``b 2``.
        baseline: The reward to be expected, ``b``.
        scores: Log-probabilities of the classes, ``b k``.
    """

    state: Tensor
    mean: Tensor
    baseline: Tensor
    scores: Tensor


class Episode(NamedTuple):
    """What REINFORCE learns from: all glimpses of a batch, t of them.

    Attributes:
        scores: Log-probabilities of the classes after the last glimpse, ``b k``.
        places: Where the glimpses were, ``b t 2``.
        log_probs: Log-densities of the places but the first, which nobody chose, ``b t-1``.
        baselines: The rewards expected when they were chosen, ``b t-1``.
    """

    scores: Tensor
    places: Tensor
    log_probs: Tensor
    baselines: Tensor

    def loss(self, labels: Tensor) -> Tensor:
        r"""The hybrid loss of section 3.2 of the paper, with reward R = 1 for a right answer.

        .. math::
            L = -\log p(k) + \textstyle\frac{1}{T - 1} \sum_t (R - b_t)^2
                - \sum_t (R - b_t) \log \pi(l_{t+1} \mid h_t)

        averaged over the batch; k is the label, and :math:`R - b_t` is a constant in the last term.
        Each term moves parameters of its own (those that see and score, the baseline, the places),
        so they need no weights.

        Args:
            labels: Numbers of the right classes, ``b``.
        """
        loss = cross_entropy(self.scores, labels)
        if not self.baselines.shape[1]:  # a single glimpse leaves nothing to choose
            return loss
        reward = (self.scores.argmax(1) == labels).to(self.scores.dtype)[:, None]
        reward = reward.expand_as(self.baselines)
        advantage = (reward - self.baselines).detach()
        chosen = -(advantage * self.log_probs).sum(1).mean()
        return loss + mse_loss(self.baselines, reward) + chosen


class RecurrentAttention(Attention):
    r"""Scores an image by a few small glimpses, each at a place chosen from what was seen before.

    .. math::
        y = \log \operatorname{softmax}(W_y h_T), \quad
        h_t = \delta\big(W_g\, g(x, l_t) + W_h h_{t-1}\big), \quad
        l_{t+1} \sim \mathcal{N}\big(\mu(h_t), \sigma^2\big)

    where :math:`\delta` is ReLU and g the glimpse, a `GlimpseNetwork`; section 3.1 of the paper.
    Work and memory do not depend on the size of the image. In training the first place is uniform
    and the others are drawn; in evaluation each is the mean. The places are not differentiable:
    they learn by REINFORCE, ``model.train().explore(x).loss(labels).backward()``, as in section
    3.2. A hook on the tap that returns other places makes the network look there.

    Args:
        channels: Channels of x.
        num_classes: Classes to score.
        num_glimpses: :math:`T`.
        patch_size: Side of the smallest patch of a glimpse; the larger ones are averaged to it.
        num_patches: Patches of a glimpse, around one center.
        patch_scale: How much larger each is than the one before.
        glimpse_dim: Width of the path that sees the patches.
        location_dim: Width of the path that sees the place; the state has the width of both
            together.
        location_std: :math:`\sigma`, in half sides of the image.
        policy: How :math:`\mu` is found: a ``perceptron`` with one hidden layer and a tanh, or a
            ``linear`` layer, as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b t 2`` (x and y of each glimpse, from -1 to 1), y ``b k``.

    Raises:
        ValueError: a size or the deviation is not positive, the policy is unknown, or the scale
            gives patches that cannot be averaged to the smallest.

    >>> RecurrentAttention(1, num_classes=10)(torch.randn(2, 1, 28, 40)).shape
    torch.Size([2, 10])
    """

    card = Card(
        title="Recurrent Attention",
        paper="Recurrent Models of Visual Attention",
        authors="Volodymyr Mnih, Nicolas Heess, Alex Graves, Koray Kavukcuoglu",
        venue="NeurIPS",
        year=2014,
        url="https://arxiv.org/abs/1406.6247",
        code="https://github.com/kevinzakka/recurrent-visual-attention",
        license="MIT",
        domain="spatial",
        computes="fc",
        applies="sample",
        kind="network",
        train_differs=True,
        cost=dict(time="c", memory="c"),
        aliases=("ram", "recurrent_visual_attention"),
        differs=(
            "The mean of a place is found by two layers and a tanh, as in the best-known "
            "implementation; the paper has one linear layer (policy='linear').",
            "That implementation measures both axes by the height of the image, so that its "
            "glimpses of a wide image miss; here each axis has its own size.",
            "It also draws a place after the last glimpse, which only adds noise to the gradient, "
            "and weighs the term of REINFORCE by 0.01, which Adam does not feel; neither is here.",
            "It starts at a random place in evaluation too, and draws the others; here evaluation "
            "starts in the center and takes the means, so that it gives the same twice.",
        ),
        plug=False,
    )
    axes = Axes("b c h w", "b t 2", output="b k", range="offset")

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        num_glimpses: int = 6,
        patch_size: int = 8,
        num_patches: int = 1,
        patch_scale: float = 2,
        glimpse_dim: int = 128,
        location_dim: int = 128,
        location_std: float = 0.05,
        policy: Literal["perceptron", "linear"] = "perceptron",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(num_classes=num_classes, num_glimpses=num_glimpses)
        above_zero(location_std=location_std)
        one_of(("perceptron", "linear"), policy=policy)
        self.num_glimpses, self.location_std, self.policy = num_glimpses, location_std, policy
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.glimpse = GlimpseNetwork(
            channels, patch_size, num_patches, patch_scale, glimpse_dim, location_dim, **factory
        )
        self.width = glimpse_dim + location_dim
        self.enter = nn.Linear(self.width, self.width, **factory)
        self.recur = nn.Linear(self.width, self.width, **factory)
        if policy == "linear":
            self.locate = nn.Linear(self.width, 2, **factory)
        else:
            hidden = self.width // 2
            layers = nn.Linear(self.width, hidden, **factory), nn.Linear(hidden, 2, **factory)
            self.locate = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.Tanh())
        self.baseline = nn.Linear(self.width, 1, **factory)
        self.classify = nn.Linear(self.width, num_classes, **factory)

    def read(self, x: Tensor, place: Tensor, state: Tensor) -> Tensor:
        """The next state, after a glimpse at a place."""
        return (self.enter(self.glimpse(x, place)) + self.recur(state)).relu()

    def score(self, state: Tensor) -> Tensor:
        """Log-probabilities of the classes."""
        return self.classify(state).log_softmax(1)

    def step(self, x: Tensor, place: Tensor, state: Tensor) -> Step:
        """One glimpse, and all that follows from it; the first state is zero."""
        state = self.read(x, place, state)
        seen = state.detach()
        return Step(state, self.locate(seen), self.baseline(seen).squeeze(1), self.score(state))

    def walk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The states, ``b t d``, and the places as they were drawn, ``b t 2``: some lie outside."""
        state = x.new_zeros(x.shape[0], self.width)
        place = x.new_zeros(x.shape[0], 2)
        if self.training:
            place = place.uniform_(-1, 1)
        states, places = [], []
        for t in range(self.num_glimpses):
            if t:
                place = self.locate(state.detach()).detach().to(x)
                if self.training:
                    place = place + self.location_std * torch.randn_like(place)
            state = self.read(x, place.clamp(-1, 1), state)
            states.append(state)
            places.append(place)
        return torch.stack(states, 1), torch.stack(places, 1)

    def explore(self, x: Tensor) -> Episode:
        """Run the network and keep what REINFORCE needs; the places are drawn in training only.

        The places are those of the policy: nobody on the tap is asked.
        """
        self.check(x)
        states, places = self.walk(x)
        seen = states[:, :-1].detach()
        # The density is that of the draw, before it is brought back into the image.
        missed = (places[:, 1:] - self.locate(seen)).square().sum(2)
        log_probs = -missed / (2 * self.location_std**2) - math.log(
            2 * math.pi * self.location_std**2
        )
        baselines = self.baseline(seen).squeeze(2)
        return Episode(self.score(states[:, -1]), places.clamp(-1, 1), log_probs, baselines)

    def attention(self, x: Tensor) -> Tensor:
        return self.walk(x)[1].clamp(-1, 1)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], self.width)
        for t in range(self.num_glimpses):
            state = self.read(x, a[:, t], state)
        return self.score(state)

    def fused(self, x: Tensor) -> Tensor:
        return self.score(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The state after the last glimpse, ``b d``."""
        return self.walk(x)[0][:, -1]


class Retina(nn.Module):
    """Cuts patches of growing size around one place, and averages all to the size of the smallest.

    Zeros stand for what lies outside of the image. The sensor of section 3.1 of the paper.

    Args:
        patch_size: Side of the smallest patch.
        num_patches: How many there are.
        patch_scale: How much larger each is than the one before.

    Shape:
        x ``b c h w``, place ``b 2`` (x and y, from -1 to 1), y ``b`` by patches · c · size · size.

    >>> Retina(8, num_patches=3)(torch.randn(2, 1, 28, 40), torch.zeros(2, 2)).shape
    torch.Size([2, 192])
    """

    def __init__(self, patch_size: int = 8, num_patches: int = 1, patch_scale: float = 2) -> None:
        super().__init__()
        positive(patch_size=patch_size, num_patches=num_patches)
        if not patch_scale >= 1:
            raise ValueError(f"patch_scale must be 1 or more, got {patch_scale!r}")
        self.patch_size = patch_size
        sides = [patch_size]
        for _ in range(num_patches - 1):
            sides.append(int(patch_scale * sides[-1]))
        if any(side // (side // patch_size) != patch_size for side in sides):
            raise ValueError(
                f"patch_scale ({patch_scale}) gives patches of sides {sides}, which whole windows "
                f"cannot all average to {patch_size}"
            )
        self.sides = tuple(sides)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Look at a place."""
        return look(x, place, self.sides)


class GlimpseNetwork(nn.Module):
    r"""Says what a `Retina` sees, and where.

    .. math::
        g = \delta\big(W_3\,\delta(W_1 \phi) + W_4\,\delta(W_2 l)\big)

    for the patches :math:`\phi` at the place l; section 3.1 of the paper.

    Args:
        channels: Channels of x.
        patch_size: Side of the smallest patch.
        num_patches: How many there are.
        patch_scale: How much larger each is than the one before.
        glimpse_dim: Width of the path that sees the patches.
        location_dim: Width of the path that sees the place.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, place ``b 2`` (x and y, from -1 to 1), y ``b d`` with the width of both paths
        together.

    >>> GlimpseNetwork(1)(torch.randn(2, 1, 28, 40), torch.zeros(2, 2)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        channels: int,
        patch_size: int = 8,
        num_patches: int = 1,
        patch_scale: float = 2,
        glimpse_dim: int = 128,
        location_dim: int = 128,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        positive(channels=channels, glimpse_dim=glimpse_dim, location_dim=location_dim)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.retina = Retina(patch_size, num_patches, patch_scale)
        self.glimpse = nn.Linear(num_patches * channels * patch_size**2, glimpse_dim, **factory)
        self.location = nn.Linear(2, location_dim, **factory)
        self.mix_glimpse = nn.Linear(glimpse_dim, glimpse_dim + location_dim, **factory)
        self.mix_location = nn.Linear(location_dim, glimpse_dim + location_dim, **factory)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Look at a place."""
        seen = self.glimpse(self.retina(x, place)).relu()
        return (self.mix_glimpse(seen) + self.mix_location(self.location(place).relu())).relu()


@leaf
def look(x: Tensor, place: Tensor, sides: Sequence[int]) -> Tensor:
    """Read patches of these sides around the pixel at a place, all averaged to the first side."""
    wide = torch.promote_types(place.dtype, torch.float32)  # in half precision pixels are too small
    smallest, largest = sides[0], sides[-1]
    reach = torch.arange(largest, device=x.device) - largest // 2

    def line(at: Tensor, n: int) -> tuple[Tensor, Tensor]:
        i = (0.5 * (at.to(wide) + 1) * n).long()[:, None] + reach  # b side
        return i.clamp(0, n - 1), (i >= 0) & (i < n)

    j, inside_j = line(place[:, 0], x.shape[3])
    i, inside_i = line(place[:, 1], x.shape[2])
    image = torch.arange(x.shape[0], device=x.device)[:, None, None]
    # The image itself is never copied nor padded: a glimpse costs the same in one of any size.
    patch = x.permute(0, 2, 3, 1)[image, i[:, :, None], j[:, None]]  # b side side c
    inside = (inside_i[:, :, None] & inside_j[:, None]).unsqueeze(3)
    patch = torch.where(inside, patch, 0.0).permute(0, 3, 1, 2)
    seen = []
    for side in sides:
        start = largest // 2 - side // 2
        part = patch[:, :, start : start + side, start : start + side]
        seen.append(part if side == smallest else avg_pool2d(part, side // smallest))
    return torch.cat(seen, 1).flatten(1)
