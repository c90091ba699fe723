"""The inverted residual mobile block in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _arguments(
    dim_in: int,
    dim_out: int,
    norm_in: bool = True,
    has_skip: bool = True,
    exp_ratio: float = 1.0,
    dw_ks: int = 3,
    stride: int = 1,
    se_ratio: float = 0.0,
    dim_head: int = 64,
    window_size: int = 7,
    qkv_bias: bool = False,
    v_group: bool = False,
    attn_pre: bool = False,
) -> Options:
    return dict(
        channels=dim_in,
        out_channels=dim_out,
        head_dim=dim_head,
        expansion=exp_ratio,
        window_size=window_size if window_size > 0 else None,
        kernel_size=dw_ks,
        stride=stride,
        se_ratio=se_ratio,
        bias=qkv_bias,
        group_values=v_group,
        mix_first=attn_pre,
        norm=norm_in,
        residual=has_skip,
    )


REFERENCES = (
    Reference(
        "zhangzjn/EMO:iRMB",
        _arguments,
        {
            "qk.conv": "qk",
            "v.conv": "value",
            "conv_local.conv": "local.0",
            "conv_local.norm": "local.1",
            "se.conv_reduce": "squeeze",
            "se.conv_expand": "excite",
            "proj.conv": "out",
        },
        fixed=dict(act_layer="relu", norm_layer="bn_2d", attn_s=True, drop=0.0, dilation=1),
        ignored=("drop_path",),
        map="b_g heads q k",
    ),
)
