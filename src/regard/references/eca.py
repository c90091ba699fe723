"""Efficient channel attention in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Reference

REFERENCES = (
    Reference(
        "BangguWu/ECANet",
        lambda channel=None, k_size=3: dict(channels=channel, kernel_size=k_size),
        {"conv": "mix"},
        sizes=lambda s: dict(k_size=s["conv.weight"][2]),
        map="b c 1*",
    ),
    Reference(
        "timm:EcaModule",
        lambda channels=None, kernel_size=3: dict(channels=channels, kernel_size=kernel_size),
        {"conv": "mix"},
        fixed=dict(act_layer=None, gate_layer="sigmoid", use_mlp=False),
        ignored=("gamma", "beta", "rd_ratio", "rd_channels", "rd_divisor"),
        sizes=lambda s: dict(kernel_size=s["conv.weight"][2]),
        map="b c 1*",
    ),
    Reference(
        "timm:EfficientChannelAttn",
        lambda channels=None, kernel_size=3: dict(channels=channels, kernel_size=kernel_size),
        {"conv": "mix"},
        fixed=dict(act_layer=None, gate_layer="sigmoid", use_mlp=False),
        ignored=("gamma", "beta", "rd_ratio", "rd_channels", "rd_divisor"),
        sizes=lambda s: dict(kernel_size=s["conv.weight"][2]),
        map="b c 1*",
    ),
    Reference(
        "timm:CecaModule",
        differs="bends the channels to a ring, on which the last is by the first",
        loads=False,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ECAAttention",
        lambda kernel_size=3: dict(channels=None, kernel_size=kernel_size),
        {"conv": "mix"},
        sizes=lambda s: dict(kernel_size=s["conv.weight"][2]),
        map="b c 1*",
        differs="adds a bias to every score",
        before=dict(bias=True),
        legacy=Legacy("attention.ECAAttention", "kernel_size=3", keras=LegacyKeras()),
    ),
)
