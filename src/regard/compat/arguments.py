"""How old calls are read: a function has the arguments of an old class, and returns the new ones.

Those that fit on a line stand in the table itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from .old import Options


def selective_kernel(
    channel: int = 512,
    kernels: Sequence[int] = (1, 3, 5, 7),
    reduction: int = 16,
    group: int = 1,
    L: int = 32,
) -> Options:
    return dict(
        in_channels=channel,
        kernels=tuple(kernels),
        groups=group,
        reduction=reduction,
        floor=L,
        dilate=False,
    )


def pyramid_split(channel: int = 512, reduction: int = 4, S: int = 4) -> Options:
    kernels = tuple(2 * i + 3 for i in range(S))
    # The authors' groups, 1 4 8 16, as far as they divide the share of a kernel.
    groups = tuple(gcd(2 ** (i + 1), channel // S) if i else 1 for i in range(S))
    return dict(in_channels=channel, kernels=kernels, kernel_groups=groups, reduction=reduction)


def efficient_multi_head(
    d_model: int,
    d_k: int,
    d_v: int,
    h: int,
    dropout: float = 0.1,
    H: int = 7,
    W: int = 7,
    ratio: int = 3,
    apply_transform: bool = True,
) -> Options:
    return dict(
        channels=d_model,
        heads=h,
        reduction=max(ratio, 1),
        head_width=d_k,
        value_head_width=d_v,
        transform=apply_transform,
        dropout=dropout,
    )


def efficient_multi_head_keras(
    d_model: int,
    d_k: int,
    d_v: int,
    h: int,
    droupout: float = 0.1,
    H: int = 7,
    W: int = 7,
    ratio: int = 3,
    apply_transform: bool = True,
) -> Options:
    return efficient_multi_head(d_model, d_k, d_v, h, droupout, H, W, ratio, apply_transform)


def muse(d_model: int, d_k: int, d_v: int, h: int, dropout: float = 0.1) -> Options:
    return dict(
        width=d_model,
        heads=h,
        kernels=(1, 3, 5),
        filters="static",
        head_width=d_k,
        value_head_width=d_v,
        dropout=dropout,
    )


def class_residual(channel: int = 512, num_class: int = 1000, la: float = 0.2) -> Options:
    return dict(
        channels=channel, classes=num_class, residual=la, temperatures=("max",), normalize=False
    )


def class_residual_keras(
    num_class: int = 1000, name: str = "ResidualAttention", la: float = 0.2
) -> Options:
    return {**class_residual(1, num_class, la), "name": name}


def coordinate(inp: int, oup: int, reduction: int = 32) -> Options:
    if inp != oup:  # nor could it run
        raise ValueError(f"CoordAtt: oup ({oup}) must equal inp ({inp}): the gates weigh the input")
    return dict(channels=inp, reduction=reduction)


def double_attention(in_channels: int, c_m: int, c_n: int, reconstruct: bool = True) -> Options:
    return dict(
        channels=in_channels, hidden=c_m, descriptors=c_n, expand=reconstruct, residual=False
    )


def axial(
    dim: int,
    num_dimensions: int = 2,
    heads: int = 8,
    dim_heads: int | None = None,
    dim_index: int = -1,
    sum_axial_out: bool = True,
) -> Options:
    compose = "sum" if sum_axial_out else "chain"
    return dict(
        channels=dim, heads=heads, dims=num_dimensions, head_channels=dim_heads, compose=compose
    )


def axial_transformer(
    dim: int,
    depth: int,
    heads: int = 8,
    dim_heads: int | None = None,
    dim_index: int = 1,
    reversible: bool = True,
    axial_pos_emb_shape: tuple[int, int] | None = None,
) -> Options:
    if dim_index != 1:  # nor could its convolutions run
        raise ValueError(f"AxialImageTransformer: dim_index must be 1, got {dim_index}")
    return dict(
        channels=dim,
        depth=depth,
        heads=heads,
        head_channels=dim_heads,
        size=axial_pos_emb_shape,
        reversible=reversible,
    )


def acmix(
    in_planes: int,
    out_planes: int,
    kernel_att: int = 7,
    head: int = 4,
    kernel_conv: int = 3,
    stride: int = 1,
    dilation: int = 1,
) -> Options:
    for name, size, only in (("kernel_conv", kernel_conv, 3), ("dilation", dilation, 1)):
        if size != only:  # nor could it run
            raise ValueError(f"ACmix: {name} must be {only}, got {size}")
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        heads=head,
        window=kernel_att,
        stride=stride,
    )


def outlook(
    dim: int,
    num_heads: int = 1,
    kernel_size: int = 3,
    padding: int = 1,
    stride: int = 1,
    qkv_bias: bool = False,
    attn_drop: float = 0.1,
) -> Options:
    if padding != kernel_size // 2:  # nor could it run
        raise ValueError(f"OutlookAttention: padding must be {kernel_size // 2}, got {padding}")
    return dict(
        channels=dim,
        heads=num_heads,
        kernel_size=kernel_size,
        stride=stride,
        bias=qkv_bias,
        dropout=attn_drop,
        out_dropout=attn_drop,
    )


def involution(
    kernel_size: int, in_channel: int = 4, stride: int = 1, group: int = 1, ratio: int = 4
) -> Options:
    return dict(
        channels=in_channel,
        kernel_size=kernel_size,
        stride=stride,
        reduction=ratio,
        group_width=in_channel // group,
        bias=True,
    )


def cond_conv(
    in_planes: int,
    out_planes: int,
    kernel_size: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    grounps: int = 1,
    bias: bool = True,
    K: int = 4,
    init_weight: bool = True,
) -> Options:
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        kernel_size=kernel_size,
        experts=K,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=grounps,
        bias=bias,
        route_bias=False,
    )


def dynamic_conv(
    in_planes: int,
    out_planes: int,
    kernel_size: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    grounps: int = 1,
    bias: bool = True,
    K: int = 4,
    temprature: float = 30,
    ratio: int = 4,
    init_weight: bool = True,
) -> Options:
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        kernel_size=kernel_size,
        kernels=K,
        hidden=in_planes // ratio,
        temperature=temprature,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=grounps,
        bias=bias,
        score_bias=False,
    )
