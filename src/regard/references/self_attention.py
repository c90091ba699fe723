"""Self-attention of images (SAGAN) in other people's code."""

from __future__ import annotations

from .record import Reference

LAYERS = {f"{name}_conv": name for name in ("query", "key", "value")}

REFERENCES = (
    Reference(
        "brain-research/self-attention-gan",
        lambda c: dict(channels=c),
        {
            "sn_conv_theta": "query",
            "sn_conv_phi": "key",
            "sn_conv_g": "value",
            "sn_conv_attn": "out",
            "sigma_ratio": "gamma",
        },
        map="b n m",
    ),
    Reference(
        "heykeetae/Self-Attention-GAN:Self_Attn",
        lambda in_dim, activation=None: dict(
            channels=in_dim, value_reduction=None, subsample=False, bias=True
        ),
        LAYERS,
        sizes=lambda s: dict(in_dim=s["value_conv.weight"][0]),
        map="b n m",
    ),
    Reference(
        "MenghaoGuo/Awesome-Vision-Attentions:SelfAttention",
        lambda in_dim: dict(
            channels=in_dim,
            reduction=1,
            value_reduction=None,
            subsample=False,
            bias=True,
            residual=False,
        ),
        LAYERS,
        sizes=lambda s: dict(in_dim=s["value_conv.weight"][0]),
        map="b n m",
    ),
)
