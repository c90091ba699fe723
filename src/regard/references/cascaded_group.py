"""Cascaded group attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

NAMES = {
    "qkvs.*.c": "qkv.*.0",
    "qkvs.*.bn": "qkv.*.1",
    "dws.*.c": "mix.*.0",
    "dws.*.bn": "mix.*.1",
    "attention_biases": "positions",
    "proj.1.c": "out.0",
    "proj.1.bn": "out.1",
}


def _group(
    dim: int,
    key_dim: int,
    num_heads: int = 8,
    attn_ratio: float = 4,
    resolution: int = 14,
    kernels: Sequence[int] = (5, 5, 5, 5),
) -> Options:
    if int(attn_ratio * key_dim) != dim // num_heads:
        raise ValueError(
            f"CascadedGroupAttention: attn_ratio times key_dim must be dim / num_heads "
            f"({dim // num_heads}) to run, got {attn_ratio} times {key_dim}"
        )
    return dict(
        channels=dim,
        num_heads=num_heads,
        key_dim=key_dim,
        window_size=resolution,
        kernel_sizes=tuple(kernels[:num_heads]),
    )


def _window(
    dim: int,
    key_dim: int,
    num_heads: int = 8,
    attn_ratio: float = 4,
    resolution: int = 14,
    window_resolution: int = 7,
    kernels: Sequence[int] = (5, 5, 5, 5),
) -> Options:
    side = min(window_resolution, resolution)
    return _group(dim, key_dim, num_heads, attn_ratio, side, kernels)


TIMM = {name.replace(".c", ".conv"): ours for name, ours in NAMES.items()}

REFERENCES = (
    Reference(
        "microsoft/Cream:CascadedGroupAttention",
        _group,
        NAMES,
        unread=("attention_bias_idxs", "ab"),
        map="0: b_g q k",
    ),
    Reference(
        "microsoft/Cream:LocalWindowAttention",
        _window,
        {f"attn.{name}": ours for name, ours in NAMES.items()},
        unread=("attn.attention_bias_idxs", "attn.ab"),
        map="0: b_g q k",
    ),
    Reference("timm:CascadedGroupAttention", _group, TIMM),
    Reference(
        "timm:LocalWindowAttention",
        _window,
        {f"attn.{name}": ours for name, ours in TIMM.items()},
    ),
)
