"""Classes of other libraries that are no golden: run here, or written out from their equations."""

from __future__ import annotations

import torch
from torch.nn.functional import linear, pad

from closeness import assert_same
from regard.factory import load_reference


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
