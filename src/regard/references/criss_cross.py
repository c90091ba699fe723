"""Criss-cross attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

LAYERS = {f"{name}_conv": name for name in ("query", "key", "value")}

REFERENCES = (
    Reference(
        "speedinghzl/CCNet:CrissCrossAttention",
        # The recurrence is the number of times that the module is called.
        lambda in_dim, *, recurrence=1: dict(channels=in_dim, recurrence=recurrence),
        LAYERS,
        sizes=lambda s: dict(in_dim=s["value_conv.weight"][0]),
        map="b h w k",
    ),
    Reference(
        "speedinghzl/CCNet:RCCAModule",
        # The recurrence is an argument of forward.
        lambda in_channels, out_channels, num_classes, *, recurrence=1: dict(
            in_channels=in_channels,
            out_channels=out_channels,
            num_classes=num_classes,
            recurrence=recurrence,
            dropout=0.0,
        ),
        {
            "conva": "before",
            "convb": "after",
            "bottleneck": "join",
            "bottleneck.3": "classify",
            "cca": "criss_cross",
            **{f"cca.{there}": f"criss_cross.{here}" for there, here in LAYERS.items()},
        },
        builds="CrissCrossHead",
        map="b h w k",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CrissCrossAttention",
        lambda in_dim: dict(channels=in_dim, recurrence=1),
        LAYERS,
        sizes=lambda s: dict(in_dim=s["value_conv.weight"][0]),
        legacy=Legacy("attention.CrissCrossAttention", "in_dim=64"),
    ),
)
