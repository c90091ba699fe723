"""Window attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

NAMES = {
    "attn.qkv": ("query", "key", "value"),
    "attn.proj": "out",
    "attn.relative_position_bias_table": "positions",
    "attn.q_bias": "query.bias",
    "attn.v_bias": "value.bias",
    "attn.logit_scale": "temperature",
    "attn.cpb_mlp.0": "position_hidden",
    "attn.cpb_mlp.2": "position_out",
}
TABLES = ("attn.relative_*_index", "attn.relative_coords_table", "attn_mask")


def _sizes(resolution: Sequence[int] | int, window_size: int, shift_size: int) -> tuple[int, int]:
    """Return window and shift: one window, without a shift, for an image that is not larger."""
    smallest = resolution if isinstance(resolution, int) else min(resolution)
    return (smallest, 0) if smallest <= window_size else (window_size, shift_size)


def _swin(
    dim: int,
    input_resolution: Sequence[int],
    num_heads: int,
    window_size: int = 7,
    shift_size: int = 0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    drop: float = 0.0,
    attn_drop: float = 0.0,
) -> Options:
    window_size, shift_size = _sizes(input_resolution, window_size, shift_size)
    return dict(
        channels=dim,
        num_heads=num_heads,
        window_size=window_size,
        shift_size=shift_size,
        bias=qkv_bias,
        scale=qk_scale or None,
        dropout=attn_drop,
        out_dropout=drop,
    )


def _swin_v2(
    dim: int,
    input_resolution: Sequence[int],
    num_heads: int,
    window_size: int = 7,
    shift_size: int = 0,
    qkv_bias: bool = True,
    drop: float = 0.0,
    attn_drop: float = 0.0,
    pretrained_window_size: int = 0,
) -> Options:
    options = _swin(
        dim,
        input_resolution,
        num_heads,
        window_size,
        shift_size,
        qkv_bias,
        drop=drop,
        attn_drop=attn_drop,
    )
    return options | dict(scores="cosine", pretrained_size=pretrained_window_size or None)


def _torchvision(
    dim: int,
    window_size: Sequence[int],
    shift_size: Sequence[int],
    num_heads: int,
    qkv_bias: bool = True,
    proj_bias: bool = True,
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        window_size=tuple(window_size),
        shift_size=tuple(shift_size),
        bias=qkv_bias,
        out_bias=proj_bias,
        dropout=attention_dropout,
        out_dropout=dropout,
    )


def _torchvision_v2(
    dim: int,
    window_size: Sequence[int],
    shift_size: Sequence[int],
    num_heads: int,
    qkv_bias: bool = True,
    proj_bias: bool = True,
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
) -> Options:
    options = _torchvision(
        dim,
        window_size,
        shift_size,
        num_heads,
        qkv_bias,
        proj_bias,
        attention_dropout,
        dropout,
    )
    return options | dict(scores="cosine")


def _no_key_bias(state: dict[str, Tensor], module: nn.Module) -> State:
    """Leave out the bias of the keys, which torchvision sets to zero in each call."""
    if "qkv.bias" in state:
        query, _, value = state.pop("qkv.bias").chunk(3)
        state |= {"q_bias": query, "v_bias": value}
    return state


IGNORED = ("mlp_ratio", "drop_path", "act_layer", "norm_layer", "fused_window_process")

REFERENCES = (
    Reference(
        "microsoft/Swin-Transformer:swin_transformer.py:SwinTransformerBlock",
        _swin,
        NAMES,
        unread=(*TABLES, "mlp.*", "norm1.*", "norm2.*"),
        ignored=IGNORED,
        map="b_g heads q k",
    ),
    Reference(
        "microsoft/Swin-Transformer:swin_transformer_v2.py:SwinTransformerBlock",
        _swin_v2,
        NAMES,
        unread=(*TABLES, "mlp.*", "norm1.*", "norm2.*"),
        ignored=IGNORED,
        map="b_g heads q k",
    ),
    Reference(
        "torchvision:ShiftedWindowAttention",
        _torchvision,
        {name.removeprefix("attn."): ours for name, ours in NAMES.items()},
        unread=("relative_position_index",),
        map="b_g heads q k",
    ),
    Reference(
        "torchvision:ShiftedWindowAttentionV2",
        _torchvision_v2,
        {name.removeprefix("attn."): ours for name, ours in NAMES.items()},
        unread=("relative_position_index", "relative_coords_table"),
        adapt=_no_key_bias,
        map="b_g heads q k",
    ),
)
