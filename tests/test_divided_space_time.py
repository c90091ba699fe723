"""The video form, position by position and frame by frame; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from cases import randomize
from closeness import assert_same


def torchs(heads: Any) -> nn.Module:
    """Torch's own multi-head attention with the weights of one of ours."""
    width = heads.out.in_features
    module = nn.MultiheadAttention(width, heads.num_heads, batch_first=True, dtype=torch.float64)
    names = {"in_proj_": heads.qkv, "out_proj.": heads.out}
    state = {f"{n}{kind}": getattr(names[n], kind) for n in names for kind in ("weight", "bias")}
    module.load_state_dict(state)
    return module


def test_a_video_is_read_along_time_and_then_along_space() -> None:
    block = randomize(regard.create("divided_space_time", 12, num_heads=3).double())
    x = torch.randn(2, 12, 3, 5, 4, dtype=torch.float64)

    def read(heads: Any, z: Tensor) -> Tensor:
        z = heads.norm(z)
        return torchs(heads)(z, z, z, need_weights=False)[0]

    z = x.clone()
    for i in range(5):
        for j in range(4):
            y = block.temporal_fc(read(block.time, x[:, :, :, i, j].mT))
            z[:, :, :, i, j] += y.mT
    want = z.clone()
    for t in range(3):
        y = read(block.space, z[:, :, t].flatten(2).mT)
        want[:, :, t] += y.mT.unflatten(2, (5, 4))
    want = want.movedim(1, -1)
    want = (want + block.mlp(block.norm(want))).movedim(-1, 1)
    assert_same(block(x), want)


def test_tokens_that_are_no_whole_number_of_frames_are_refused() -> None:
    block = regard.create("timesformer", 8, num_heads=2, num_frames=3)
    with pytest.raises(ValueError, match=r"expected 1 \+ a multiple of 3 on axis n .* got 12"):
        block(torch.randn(2, 12, 8))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"attention_type": "joint_space_time"},
            "attention_type must be 'divided_space_time' to be loaded",
        ),
        ({"qk_scale": 0.5}, "qk_scale must be None to be loaded"),
        ({}, "needs the argument T"),
    ],
    ids=["type", "scale", "frames"],
)
def test_what_cannot_be_translated_is_refused(changes: dict[str, Any], told: str) -> None:
    kwargs = {"dim": 8, "num_heads": 2} | changes
    state = {"mlp.fc1.weight": torch.zeros(32, 8)}
    with pytest.raises((ValueError, TypeError), match=told):
        regard.load_reference("timesformer", "facebookresearch/TimeSformer", kwargs, state)
