"""Efficient multi-head attention in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Options, Reference, Shapes

REST = {
    "q": "query",
    "kv": ("key", "value"),
    "sr": "shrink",
    "sr_norm": "shrink_norm",
    "transform_conv": "mix",
    "up.0": "grow",
    "up_norm": "grow_norm",
    "proj": "out",
}


def _rest(
    shapes: Shapes,
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    attn_drop: float = 0.0,
    sr_ratio: int = 1,
    apply_transform: bool = False,
) -> Options:
    """Translate both versions of the class; the second one has a layer to upsample the values."""
    return dict(
        channels=dim,
        num_heads=num_heads,
        reduction=sr_ratio,
        transform=apply_transform,
        upsample="up_norm.weight" in shapes,
        bias="q.bias" in shapes,
        dropout=attn_drop,
    )


def _xmu(
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
        num_heads=h,
        reduction=max(ratio, 1),
        head_dim=d_k,
        value_head_dim=d_v,
        transform=apply_transform,
        dropout=dropout,
    )


def _xmu_keras(
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
    return _xmu(d_model, d_k, d_v, h, droupout, H, W, ratio, apply_transform)


REFERENCES = (
    Reference(
        "wofmanaf/ResT:Attention",
        _rest,
        REST,
        fixed=dict(qk_scale=None, proj_drop=0.0),
        map="b heads n m",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:EMSA",
        _xmu,
        {
            "fc_q": "query",
            "fc_k": "key",
            "fc_v": "value",
            "fc_o": "out",
            "sr_conv": "shrink",
            "sr_ln": "shrink_norm",
            "transform.conv": "mix",
        },
        map="b heads n m",
        legacy=Legacy(
            "attention.EMSA",
            "d_model=512, d_k=512, d_v=512, h=8, H=8, W=8, ratio=2, apply_transform=True",
            call="ImageTokens",
            keras=LegacyKeras(
                arguments=_xmu_keras,
                differs="normalizes the maps over the batch, and pads its convolution on one side",
            ),
        ),
    ),
)
