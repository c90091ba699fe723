"""Separable self-attention and the second MobileViT block in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

STACKED = "qkv_proj.block.conv"
LAYER = "global_rep.*.pre_norm"


def _block(
    shapes: Shapes,
    in_channels: int,
    attn_unit_dim: int,
    ffn_multiplier: float = 2.0,
    n_attn_blocks: int = 2,
    attn_dropout: float = 0.0,
    dropout: float = 0.0,
    ffn_dropout: float = 0.0,
    patch_h: int = 8,
    patch_w: int = 8,
    conv_ksize: int = 3,
    dilation: int = 1,
) -> Options:
    layers = [f"global_rep.{i}.pre_norm_ffn.1.block.conv.weight" for i in range(n_attn_blocks)]
    widths = {shapes[name][0] for name in layers}
    if len(widths) > 1:
        raise ValueError(
            f"MobileViTBlockv2: ffn_multiplier must be one number, got {ffn_multiplier}: the "
            "layers are equally wide here"
        )
    return dict(
        channels=in_channels,
        embed_dim=attn_unit_dim,
        num_layers=n_attn_blocks,
        hidden_dim=widths.pop(),
        patch_size=(patch_h, patch_w),
        kernel_size=conv_ksize,
        dilation=dilation,
        dropout=dropout,
        attention_dropout=attn_dropout,
        hidden_dropout=ffn_dropout,
    )


def _unstacked(state: dict[str, Tensor], module: nn.Module) -> State:
    """Split the layer of 1 + 2 d rows, and rename the last norm."""
    found: dict[str, Tensor] = {}
    last = sum(name.endswith(f"{STACKED}.weight") for name in state)
    for name, entry in state.items():
        stem, there, kind = name.rpartition(f"{STACKED}.")
        if there:
            d = len(entry) // 2
            parts = zip(("score", "key", "value"), entry.split([1, d, d]), strict=True)
            found |= {f"{stem}{part}.{kind}": rows for part, rows in parts}
        else:
            found[name.replace(f"global_rep.{last}.", "norm.")] = entry
    return found


REFERENCES = (
    Reference(
        "apple/ml-cvnets:LinearSelfAttention",
        lambda embed_dim, attn_dropout=0.0: dict(embed_dim=embed_dim, dropout=attn_dropout),
        {"out_proj.block.conv": "out"},
        fixed=dict(bias=True),
        ignored=("opts",),
        adapt=_unstacked,
    ),
    Reference(
        "apple/ml-cvnets:MobileViTBlockv2",
        _block,
        {
            "local_rep.0.block.conv": "local.0",
            "local_rep.0.block.norm": "local.1",
            "local_rep.1.block.conv": "widen",
            "conv_proj.block.conv": "project.0",
            "conv_proj.block.norm": "project.1",
            f"{LAYER}_attn.0": "layers.*.attention_norm",
            f"{LAYER}_attn.1": "layers.*.attention",
            f"{LAYER}_attn.1.out_proj.block.conv": "layers.*.attention.out",
            f"{LAYER}_ffn.0": "layers.*.feed_norm",
            f"{LAYER}_ffn.1.block.conv": "layers.*.feed.0",
            f"{LAYER}_ffn.3.block.conv": "layers.*.feed.3",
        },
        builds="MobileViTv2Block",
        fixed=dict(attn_norm_layer="layernorm2d"),
        ignored=("opts", "enable_coreml_compatible_fn"),
        adapt=_unstacked,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:MobileViTv2Attention",
        lambda d_model: dict(embed_dim=d_model),
        {"fc_i": "score", "fc_k": "key", "fc_v": "value", "fc_o": "out"},
        differs="has no ReLU on its values",
        before=dict(activation=None),
        legacy=Legacy("attention.MobileViTv2Attention", "d_model=512"),
    ),
)
