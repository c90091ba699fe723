"""The disentangled non-local block in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

WHITENING = {"channel": "positions", "spatial": "channels", "ln_nostd": "both", "ln": "both"}


def _authors(
    inplanes: int,
    planes: int,
    downsample: bool = True,
    use_out: bool = False,
    out_bn: bool = False,
    whiten_type: Sequence[str] = ("channel",),
    temperature: float = 1.0,
    with_gc: bool = False,
) -> Options:
    for name in whiten_type:
        if name not in WHITENING:
            raise ValueError(f"NonLocal2d_bn: whiten_type {name!r} has layers that are not here")
    return dict(
        channels=inplanes,
        hidden_dim=planes,
        temperature=temperature,
        whiten=[WHITENING[name] for name in whiten_type],
        unary=with_gc,
        subsample=downsample,
        project=use_out,
        norm=out_bn,
    )


def _mmseg(
    in_channels: int,
    reduction: int = 2,
    use_scale: bool = True,
    norm_cfg: object = None,
    temperature: float = 0.05,
) -> Options:
    hidden_dim = max(in_channels // reduction, 1)
    return dict(
        channels=in_channels,
        hidden_dim=hidden_dim,
        temperature=temperature if use_scale else temperature * hidden_dim**-0.5,
        project=True,
        norm=True,
        gate=False,
    )


REFERENCES = (
    Reference(
        "yinmh17/DNL-Semantic-Segmentation:NonLocal2d_bn",
        _authors,
        {
            "conv_query": "query",
            "conv_key": "key",
            "conv_value": "value",
            "conv_mask": "score",
            "conv_out": "out",
            "out_bn": "norm",
        },
        fixed=dict(with_unary=False),
        ignored=("use_gn", "lr_mult"),
        map="pairwise: b n m, unary: b 1 m",
    ),
    Reference(
        "open-mmlab/mmsegmentation:DisentangledNonLocal2d",
        _mmseg,
        {
            "theta.conv": "query",
            "phi.conv": "key",
            "g.conv": "value",
            "conv_mask": "score",
            "conv_out.conv": "out",
            "conv_out.bn": "norm",
        },
        fixed=dict(mode="embedded_gaussian", sub_sample=False),
        ignored=("conv_cfg", "zeros_init"),
        map="pairwise: b n m, unary: b 1 m",
    ),
)
