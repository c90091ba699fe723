"""Double attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Options, Reference


def _equations(
    c: int, m: int, n: int, dim: int = 2, expand: bool = True, residual: bool = True
) -> Options:
    return dict(channels=c, hidden_dim=m, num_descriptors=n, expand=expand, residual=residual)


def _xmu(in_channels: int, c_m: int, c_n: int, reconstruct: bool = True) -> Options:
    return dict(
        channels=in_channels,
        hidden_dim=c_m,
        num_descriptors=c_n,
        expand=reconstruct,
        residual=False,
    )


REFERENCES = (
    Reference(
        "equations",
        _equations,
        {"phi": "value", "theta": "gather", "rho": "distribute"},
        map="0: b k n, 1: b k n",
    ),
    Reference(
        "gjylt/DoubleAttentionNet:DoubleAttentionLayer",
        lambda in_channels, c_m, c_n, k=1: dict(
            channels=in_channels,
            hidden_dim=c_m,
            num_descriptors=c_n,
            expand=False,
            residual=False,
            num_frames=k,
        ),
        {"convA": "value", "convB": "gather", "convV": "distribute"},
        map="0: b_k n, 1: b_n k",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:DoubleAttention",
        _xmu,
        differs="takes both softmaxes over the images of the batch, so that one image has none",
        loads=False,
        legacy=Legacy(
            "attention.A2Atttention", "in_channels=512, c_m=128, c_n=128, reconstruct=True"
        ),
    ),
)
