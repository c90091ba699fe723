"""Recurrent attention: a network that reads a few small glimpses and chooses their locations."""

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
    """The results of one glimpse.

    Attributes:
        state: The hidden state, ``b d``.
        mean: Mean of the next location, ``b 2``.
        baseline: The expected reward, ``b``.
        scores: Log-probabilities of the classes, ``b k``.
    """

    state: Tensor
    mean: Tensor
    baseline: Tensor
    scores: Tensor


class Episode(NamedTuple):
    """The inputs of the REINFORCE loss: t glimpses of each image of a batch.

    Attributes:
        scores: Log-probabilities of the classes after the last glimpse, ``b k``.
        places: Locations of the glimpses, ``b t 2``.
        log_probs: Log-densities of the locations except the first, which is not chosen, ``b t-1``.
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
        Each term trains separate parameters (glimpses, state and classifier; the baseline; the
        policy), so the terms need no weights.

        Args:
            labels: Indices of the right classes, ``b``.
        """
        loss = cross_entropy(self.scores, labels)
        if not self.baselines.shape[1]:  # with a single glimpse no location is chosen
            return loss
        reward = (self.scores.argmax(1) == labels).to(self.scores.dtype)[:, None]
        reward = reward.expand_as(self.baselines)
        advantage = (reward - self.baselines).detach()
        policy_loss = -(advantage * self.log_probs).sum(1).mean()
        return loss + mse_loss(self.baselines, reward) + policy_loss


class RecurrentAttention(Attention):
    r"""Classifies an image by a few small glimpses, each at a location chosen from those before.

    .. math::
        y = \log \operatorname{softmax}(W_y h_T), \quad
        h_t = \delta\big(W_g\, g(x, l_t) + W_h h_{t-1}\big), \quad
        l_{t+1} \sim \mathcal{N}\big(\mu(h_t), \sigma^2\big)

    where :math:`\delta` is ReLU and g a `GlimpseNetwork`; section 3.1 of the paper. Time and memory
    do not depend on the size of the image. In training the first location is uniform and the others
    are sampled; in evaluation the first is the center and the others are the means. The locations
    are not differentiable: the policy learns by REINFORCE,
    ``model.train().explore(x).loss(labels).backward()``, as in section 3.2. A hook on the tap that
    returns other locations moves the glimpses there.

    Args:
        channels: Channels of x.
        num_classes: Number of classes.
        num_glimpses: :math:`T`.
        patch_size: Side of the smallest patch of a glimpse; larger patches are average-pooled to
            it.
        num_patches: Patches of a glimpse, all with the same center.
        patch_scale: Ratio of the sides of one patch and the next smaller one.
        glimpse_dim: Dimension of the embedding of the patches.
        location_dim: Dimension of the embedding of the location; the state has the sum of both.
        location_std: :math:`\sigma`, in half sides of the image.
        policy: :math:`\mu`: a ``perceptron`` with one hidden layer and a tanh, or a ``linear``
            layer, as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b t 2`` (x and y of each glimpse, from -1 to 1), y ``b k``.

    Raises:
        ValueError: a size or the deviation is not positive, the policy is unknown, or a patch
            cannot be average-pooled to the size of the smallest.

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
            "The mean of a location is computed by two layers and a tanh, as in the best-known "
            "implementation; the paper has one linear layer (policy='linear').",
            "That implementation scales both coordinates by the height of the image, which "
            "misplaces glimpses of an image that is not square; here each axis has its own size.",
            "It also samples a location after the last glimpse, which only adds noise to the "
            "gradient, and multiplies the REINFORCE term by 0.01, to which Adam is invariant; "
            "neither is done here.",
            "It samples all locations in evaluation too; here evaluation starts at the center and "
            "takes the means, so that it is deterministic.",
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
        self.state_dim = glimpse_dim + location_dim
        self.enter = nn.Linear(self.state_dim, self.state_dim, **factory)
        self.recur = nn.Linear(self.state_dim, self.state_dim, **factory)
        if policy == "linear":
            self.locate = nn.Linear(self.state_dim, 2, **factory)
        else:
            hidden_dim = self.state_dim // 2
            self.locate = nn.Sequential(
                nn.Linear(self.state_dim, hidden_dim, **factory),
                nn.ReLU(),
                nn.Linear(hidden_dim, 2, **factory),
                nn.Tanh(),
            )
        self.baseline = nn.Linear(self.state_dim, 1, **factory)
        self.classify = nn.Linear(self.state_dim, num_classes, **factory)

    def attention(self, x: Tensor) -> Tensor:
        _, locations = self.rollout(x)
        return locations.clamp(-1, 1)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], self.state_dim)
        for t in range(self.num_glimpses):
            state = self.update(x, a[:, t], state)
        return self.score(state)

    def fused(self, x: Tensor) -> Tensor:
        return self.score(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the state after the last glimpse, ``b d``."""
        states, _ = self.rollout(x)
        return states[:, -1]

    def explore(self, x: Tensor) -> Episode:
        """Run the network and return the inputs of the REINFORCE loss.

        Locations are sampled in training only. Hooks on the tap are ignored.
        """
        self.check(x)
        states, locations = self.rollout(x)
        previous = states[:, :-1].detach()
        # The density of the sample itself, before it is clamped to the image.
        error = (locations[:, 1:] - self.locate(previous)).square().sum(2)
        log_probs = -error / (2 * self.location_std**2) - math.log(
            2 * math.pi * self.location_std**2
        )
        baselines = self.baseline(previous).squeeze(2)
        return Episode(self.score(states[:, -1]), locations.clamp(-1, 1), log_probs, baselines)

    def step(self, x: Tensor, location: Tensor, state: Tensor) -> Step:
        """Take one glimpse and return all that is computed from it; the first state is zero."""
        state = self.update(x, location, state)
        fixed = state.detach()
        return Step(state, self.locate(fixed), self.baseline(fixed).squeeze(1), self.score(state))

    def rollout(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states, ``b t d``, and the locations, ``b t 2``, not clamped to the image."""
        state = x.new_zeros(x.shape[0], self.state_dim)
        location = x.new_zeros(x.shape[0], 2)
        if self.training:
            location = location.uniform_(-1, 1)
        states, locations = [], []
        for t in range(self.num_glimpses):
            if t:
                location = self.locate(state.detach()).detach().to(x)
                if self.training:
                    location = location + self.location_std * torch.randn_like(location)
            state = self.update(x, location.clamp(-1, 1), state)
            states.append(state)
            locations.append(location)
        return torch.stack(states, 1), torch.stack(locations, 1)

    def update(self, x: Tensor, location: Tensor, state: Tensor) -> Tensor:
        """Return the next state, after a glimpse at a location."""
        return (self.enter(self.glimpse(x, location)) + self.recur(state)).relu()

    def score(self, state: Tensor) -> Tensor:
        """Return log-probabilities of the classes."""
        return self.classify(state).log_softmax(1)


class Retina(nn.Module):
    """Extracts patches of growing size around one location and average-pools them to one size.

    Pixels outside the image are zero. The sensor of section 3.1 of the paper.

    Args:
        patch_size: Side of the smallest patch.
        num_patches: Number of patches.
        patch_scale: Ratio of the sides of one patch and the next smaller one.

    Shape:
        x ``b c h w``, location ``b 2`` (x and y, from -1 to 1), y ``b`` by patches · c · size ·
        size.

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
                f"patch_scale ({patch_scale}) leads to patches of sides {sides}, not all of which "
                f"pool to {patch_size} in whole windows"
            )
        self.sides = tuple(sides)

    def forward(self, x: Tensor, location: Tensor) -> Tensor:
        """Extract the patches at a location."""
        return extract_patches(x, location, self.sides)


class GlimpseNetwork(nn.Module):
    r"""Embeds the patches of a `Retina` together with their location.

    .. math::
        g = \delta\big(W_3\,\delta(W_1 \phi) + W_4\,\delta(W_2 l)\big)

    for the patches :math:`\phi` at the location l; section 3.1 of the paper.

    Args:
        channels: Channels of x.
        patch_size: Side of the smallest patch.
        num_patches: Number of patches.
        patch_scale: Ratio of the sides of one patch and the next smaller one.
        glimpse_dim: Dimension of the embedding of the patches.
        location_dim: Dimension of the embedding of the location.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, location ``b 2`` (x and y, from -1 to 1), y ``b d`` with d the sum of both
        dimensions.

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

    def forward(self, x: Tensor, location: Tensor) -> Tensor:
        """Embed a glimpse at a location."""
        patches = self.glimpse(self.retina(x, location)).relu()
        embedded = self.location(location).relu()
        return (self.mix_glimpse(patches) + self.mix_location(embedded)).relu()


@leaf
def extract_patches(x: Tensor, location: Tensor, sides: Sequence[int]) -> Tensor:
    """Return patches of these sides around a location, all average-pooled to the first side."""
    # Half precision cannot tell neighboring pixels of a large image apart.
    dtype = torch.promote_types(location.dtype, torch.float32)
    smallest, largest = sides[0], sides[-1]
    offsets = torch.arange(largest, device=x.device) - largest // 2

    def indices(coordinate: Tensor, n: int) -> tuple[Tensor, Tensor]:
        i = (0.5 * (coordinate.to(dtype) + 1) * n).long()[:, None] + offsets  # b side
        return i.clamp(0, n - 1), (i >= 0) & (i < n)

    j, inside_j = indices(location[:, 0], x.shape[3])
    i, inside_i = indices(location[:, 1], x.shape[2])
    image = torch.arange(x.shape[0], device=x.device)[:, None, None]
    # The image is neither copied nor padded, so the cost does not depend on its size.
    patch = x.permute(0, 2, 3, 1)[image, i[:, :, None], j[:, None]]  # b side side c
    inside = (inside_i[:, :, None] & inside_j[:, None]).unsqueeze(3)
    patch = torch.where(inside, patch, 0.0).permute(0, 3, 1, 2)
    pooled = []
    for side in sides:
        start = largest // 2 - side // 2
        crop = patch[:, :, start : start + side, start : start + side]
        pooled.append(crop if side == smallest else avg_pool2d(crop, side // smallest))
    return torch.cat(pooled, 1).flatten(1)
