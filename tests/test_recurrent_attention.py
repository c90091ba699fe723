"""What the laws cannot say of recurrent attention: where it looks, and what REINFORCE gets."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from cases import randomize
from closeness import assert_same
from regard import RecurrentAttention, Retina


def network(**options: object) -> RecurrentAttention:
    sizes = {"num_glimpses": 4, "patch_size": 3, "num_patches": 2, "location_std": 0.2}
    sizes |= {"glimpse_dim": 6, "location_dim": 5}
    return randomize(RecurrentAttention(1, 3, **{**sizes, **options})).double()


def test_a_glimpse_at_a_corner_of_a_wide_image_sees_that_corner() -> None:
    """The middle of each patch is the pixel at the place, on both axes."""
    x = torch.arange(5 * 20.0).reshape(1, 1, 5, 20)
    for row, column in ((0, 0), (0, 19), (4, 0), (4, 19), (2, 7)):
        place = torch.tensor([[(2 * column + 1) / 20 - 1, (2 * row + 1) / 5 - 1]])
        assert Retina(3)(x, place)[0, 4] == x[0, 0, row, column]


def test_what_lies_outside_is_zero() -> None:
    seen = Retina(3, num_patches=2)(torch.ones(1, 1, 7, 9), torch.tensor([[1.0, 1.0]]))
    assert seen.unflatten(1, (2, 3, 3))[0, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("training", [False, True])
def test_an_episode_is_what_the_steps_give(training: bool) -> None:
    model = network().train(training)
    x = torch.randn(5, 1, 11, 17, dtype=torch.float64)
    torch.manual_seed(3)
    episode = model.explore(x)
    torch.manual_seed(3)
    assert_same(model(x), episode.scores)
    state, scores = torch.zeros(5, 11, dtype=torch.float64), torch.empty(0)
    for t, place in enumerate(episode.places.unbind(1)):
        state, mean, baseline, scores = model.step(x, place, state)
        if t < 3:
            assert_same(episode.baselines[:, t], baseline)
            drawn = episode.places[:, t + 1]
            inside = (drawn.abs() < 1).all(1)  # else the draw itself is not known
            density = Normal(mean, 0.2).log_prob(drawn).sum(1)
            assert_same(episode.log_probs[inside, t], density[inside])
            assert training or torch.equal(drawn, mean)
    assert_same(episode.scores, scores)


def test_each_term_of_the_loss_moves_parameters_of_its_own() -> None:
    model = network().train()
    torch.manual_seed(0)
    episode = model.explore(torch.randn(64, 1, 11, 17, dtype=torch.float64))
    labels = torch.randint(3, (64,))
    episode.loss(labels).backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == dict(model.named_parameters()).keys()
    model.zero_grad()
    torch.manual_seed(0)
    scores = model.explore(torch.randn(64, 1, 11, 17, dtype=torch.float64)).scores
    torch.nn.functional.cross_entropy(scores, labels).backward()
    for name, p in model.named_parameters():
        chooses = name.startswith(("locate", "baseline"))
        assert p.grad is None if chooses else torch.equal(p.grad, got[name]), name


def test_a_single_glimpse_is_a_classifier() -> None:
    episode = network(num_glimpses=1).train().explore(torch.randn(4, 1, 9, 9, dtype=torch.float64))
    loss = episode.loss(torch.tensor([0, 1, 2, 0]))
    assert loss == torch.nn.functional.cross_entropy(episode.scores, torch.tensor([0, 1, 2, 0]))


def test_evaluation_draws_nothing() -> None:
    model = network().eval()
    before = torch.get_rng_state()
    model.explore(torch.randn(2, 1, 9, 9, generator=torch.Generator()).double())
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_sees_the_same_at_the_same_places() -> None:
    model = network().eval()
    x = torch.randn(2, 1, 11, 17, dtype=torch.float64)
    places = torch.rand(2, 4, 2).bfloat16() * 2 - 1
    want = model.combine(places.double(), x)
    got = model.bfloat16().combine(places, x.bfloat16())
    assert got.dtype == torch.bfloat16
    assert_same(got, want, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "options", [{"patch_scale": 0.5}, {"patch_scale": 1.5}, {"location_std": 0.0}]
)
def test_what_gives_no_glimpses_is_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        network(**options)
