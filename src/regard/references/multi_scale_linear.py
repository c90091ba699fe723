"""Multi-scale linear attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference


def _authors(
    in_channels: int,
    out_channels: int,
    heads: int | None = None,
    heads_ratio: float = 1.0,
    dim: int = 8,
    use_bias: bool | Sequence[bool] = False,
    norm: str | Sequence[str | None] | None = (None, "bn2d"),
    scales: Sequence[int] = (5,),
    eps: float = 1.0e-15,
) -> Options:
    bias, out_bias = (use_bias,) * 2 if isinstance(use_bias, bool) else use_bias
    norms = norm if isinstance(norm, (list, tuple)) else (norm,) * 2
    for name in norms:
        if name not in (None, "bn2d"):
            raise ValueError(f"LiteMLA: norm must be None or 'bn2d' to be loaded, got {name!r}")
    return dict(
        channels=in_channels,
        out_channels=out_channels,
        head_dim=dim,
        num_heads=heads or int(in_channels // dim * heads_ratio),
        kernel_sizes=tuple(scales),
        bias=bias,
        out_bias=out_bias,
        norm=norms[0] is not None,
        out_norm=norms[1] is not None,
        eps=eps,
    )


REFERENCES = (
    Reference(
        "mit-han-lab/efficientvit:LiteMLA",
        _authors,
        {
            "qkv.conv": "qkv.0",
            "qkv.norm": "qkv.1",
            "aggreg": "scales",
            "proj.conv": "out.0",
            "proj.norm": "out.1",
        },
        fixed=dict(kernel_func="relu"),
        ignored=("act_func",),
    ),
)
