"""Classes of other libraries that are no golden: run here, or written out from their equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import linear, pad

from cases import randomize
from closeness import assert_same
from regard.factory import load_reference

TIMM = "timm.models"
HEADS = dict(dim=16, num_heads=4, qkv_bias=True)
# The mechanism, the module and the class there, and its arguments.
ON_TOKENS = (
    ("cross_covariance", f"{TIMM}.xcit", "XCA", HEADS),
    ("class_attention", f"{TIMM}.cait", "ClassAttn", HEADS),
    ("talking_heads", f"{TIMM}.cait", "TalkingHeadAttn", HEADS),
)


@pytest.mark.parametrize(("key", "module", "name", "kwargs"), ON_TOKENS)
def test_on_tokens(key: str, module: str, name: str, kwargs: dict[str, Any]) -> None:
    theirs = randomize(getattr(pytest.importorskip(module), name)(**kwargs).double()).eval()
    ours = load_reference(key, f"timm:{name}", kwargs, theirs.state_dict()).eval()
    tokens = torch.randn(2, 15, 16, dtype=torch.float64)
    assert_same(ours(tokens), theirs(tokens))


def test_class_attention_of_xcit_is_that_of_cait_and_the_patches() -> None:
    """Its projections are one layer."""
    sizes = {"qkv.weight": (18, 6), "proj.weight": (6, 6), "proj.bias": (6,)}
    state = {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}
    apart = dict(zip("qkv", state["qkv.weight"].chunk(3), strict=True))
    apart = {f"{name}.weight": t for name, t in apart.items()}
    apart |= {name: state[name] for name in ("proj.weight", "proj.bias")}
    kwargs = dict(dim=6, num_heads=2)
    xcit = load_reference("cait", "facebookresearch/xcit:ClassAttention", kwargs, state).eval()
    cait = load_reference("cait", "facebookresearch/deit:Class_Attention", kwargs, apart).eval()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    assert_same(xcit(x), torch.cat([cait(x), x[:, 1:]], 1))


def test_padding_of_groups_is_attended_to_as_any_other_position() -> None:
    """What Twins' code for segmentation does in `forward_padding`, group by group."""
    kwargs = dict(dim=6, num_heads=2, qkv_bias=True, ws=4)
    sizes = {"qkv.weight": (18, 6), "qkv.bias": (18,), "proj.weight": (6, 6), "proj.bias": (6,)}
    state = {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}
    source = "Meituan-AutoML/Twins:GroupAttention.forward_padding"
    ours = load_reference("twins", source, kwargs, state).eval()
    x = torch.randn(1, 6, 7, 4, dtype=torch.float64)
    (image,) = pad(x, (0, 0, 0, 1)).permute(0, 2, 3, 1)  # 8 rows of 4
    rows = []
    for group in image.unflatten(0, (2, 4)):
        tokens = linear(group.flatten(0, 1), state["qkv.weight"], state["qkv.bias"])
        q, k, v = tokens.unflatten(1, (3, 2, 3)).permute(1, 2, 0, 3)  # heads n d each
        y = (q @ k.mT / 3**0.5).softmax(-1) @ v
        rows.append(
            linear(y.mT.permute(2, 0, 1).flatten(1), state["proj.weight"], state["proj.bias"])
        )
    want = torch.cat(rows).unflatten(0, (8, 4))[:7].permute(2, 0, 1)[None]
    assert_same(ours(x), want)
