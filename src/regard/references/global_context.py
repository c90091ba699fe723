"""Global context blocks in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.check import one_of
from .record import Options, Reference, Shapes

POOLS = {"att": "attention", "avg": "mean"}
LAYERS = {
    "conv_mask": "score",
    "channel_add_conv": "add",
    "channel_mul_conv": "mul",
}


def _fusion(add: bool, mul: bool) -> str:
    if not add and not mul:
        raise ValueError("GlobalContext: nothing is done with the context")
    return "both" if add and mul else "add" if add else "mul"


def _authors(
    inplanes: int,
    ratio: float,
    pooling_type: str = "att",
    fusion_types: Sequence[str] = ("channel_add",),
) -> Options:
    one_of(tuple(POOLS), pooling_type=pooling_type)
    return dict(
        channels=inplanes,
        hidden_dim=int(inplanes * ratio),
        pooling=POOLS[pooling_type],
        fusion=_fusion("channel_add" in fusion_types, "channel_mul" in fusion_types),
    )


def _timm(
    channels: int,
    rd_channels: int,
    use_attn: bool = True,
    fuse_add: bool = False,
    fuse_scale: bool = True,
) -> Options:
    return dict(
        channels=channels,
        hidden_dim=rd_channels,
        pooling="attention" if use_attn else "mean",
        fusion=_fusion(fuse_add, fuse_scale),
        eps=1e-6,
    )


def _timm_sizes(shapes: Shapes) -> Options:
    add, scale = "mlp_add.fc1.weight" in shapes, "mlp_scale.fc1.weight" in shapes
    hidden, channels = shapes["mlp_add.fc1.weight" if add else "mlp_scale.fc1.weight"][:2]
    return dict(
        channels=channels,
        rd_channels=hidden,
        use_attn="conv_attn.weight" in shapes,
        fuse_add=add,
        fuse_scale=scale,
    )


REFERENCES = (
    Reference("xvjiarui/GCNet:ContextBlock", _authors, LAYERS, map="b 1 n"),
    Reference(
        "mmcv:ContextBlock",
        lambda in_channels, ratio, pooling_type="att", fusion_types=("channel_add",): _authors(
            in_channels, ratio, pooling_type, fusion_types
        ),
        LAYERS,
        map="b 1 n",
    ),
    Reference(
        "timm:GlobalContext",
        _timm,
        {
            "conv_attn": "score",
            "mlp_add.fc1": "add.0",
            "mlp_add.norm": "add.1",
            "mlp_add.fc2": "add.3",
            "mlp_scale.fc1": "mul.0",
            "mlp_scale.norm": "mul.1",
            "mlp_scale.fc2": "mul.3",
        },
        fixed=dict(act_layer="relu", gate_layer="sigmoid"),
        ignored=("init_last_zero", "rd_ratio", "rd_divisor"),
        sizes=_timm_sizes,
    ),
)
