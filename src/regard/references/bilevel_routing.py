"""Bi-level routing attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _legacy(
    dim: int,
    num_heads: int = 8,
    n_win: int = 7,
    qk_dim: int | None = None,
    qk_scale: float | None = None,
    topk: int = 4,
    param_attention: str = "qkvo",
    param_routing: bool = False,
    diff_routing: bool = False,
    soft_routing: bool = False,
    side_dwconv: int = 3,
) -> Options:
    if diff_routing and not soft_routing:
        raise ValueError("BiLevelRoutingAttention: diff_routing runs with soft_routing only")
    routing = "differentiable" if diff_routing else "detached"
    return dict(
        channels=dim,
        num_heads=num_heads,
        regions=n_win,
        topk=topk,
        qk_dim=qk_dim,
        scale=qk_scale or None,
        kernel_size=side_dwconv or None,
        routing="projected" if param_routing else routing,
        soft_routing=soft_routing,
        out_proj=param_attention == "qkvo",
    )


def _nchw(
    dim: int,
    num_heads: int = 8,
    n_win: int = 7,
    qk_scale: float | None = None,
    topk: int = 4,
    side_dwconv: int = 3,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        regions=n_win,
        topk=topk,
        scale=qk_scale or None,
        kernel_size=side_dwconv or None,
    )


REFERENCES = (
    Reference(
        "rayleizhu/BiFormer:BiLevelRoutingAttention",
        _legacy,
        {"qkv.qkv": "qkv", "router.emb": "route", "lepe": "local", "wo": "out"},
        fixed=dict(kv_downsample_mode="identity"),
        ignored=("kv_per_win", "kv_downsample_ratio", "kv_downsample_kernel", "auto_pad"),
        map="b_g heads q k",
    ),
    Reference(
        "rayleizhu/BiFormer:nchwBRA",
        _nchw,
        {"qkv_linear": "qkv", "lepe": "local", "output_linear": "out"},
        ignored=("auto_pad", "attn_backend"),
        differs="pads the projections, to regions of the size of a part of the image",
        before=dict(padding="projections"),
        map="b heads g q k",
    ),
)
