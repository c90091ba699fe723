"""Attention gates in other people's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .record import Options, Reference

ACTIVATIONS = {"concatenation_debug": "softplus"}
NORMALIZATIONS = {"concatenation_residual": "softmax"}
# Of the form that the authors wrote for classification.
TORR = {
    "concatenation_softmax": "softmax",
    "concatenation_sigmoid": "sigmoid",
    "concatenation_mean": "sum",
    "concatenation_mean_flow": "shifted_sum",
    "concatenation_range_normalise": "range",
}


def _stride(factor: int | Sequence[int], dims: int) -> tuple[int, ...]:
    factor = (factor,) * dims if isinstance(factor, int) else tuple(factor)
    return factor * dims if len(factor) == 1 else factor


def _grid(dims: int) -> Callable[..., Options]:
    def arguments(
        in_channels: int,
        gating_channels: int,
        inter_channels: int | None = None,
        mode: str = "concatenation",
        sub_sample_factor: int | Sequence[int] = (2,) * dims,
    ) -> Options:
        if mode not in ("concatenation", *ACTIVATIONS, *NORMALIZATIONS):
            raise ValueError(f"mode: no form of the grid attention is called {mode!r}")
        return dict(
            channels=in_channels,
            guide_channels=gating_channels,
            hidden_dim=inter_channels,
            stride=_stride(sub_sample_factor, dims),
            activation=ACTIVATIONS.get(mode, "relu"),
            normalization=NORMALIZATIONS.get(mode, "sigmoid"),
            dims=dims,
        )

    return arguments


def _torr(dims: int) -> Callable[..., Options]:
    def arguments(
        in_channels: int,
        gating_channels: int,
        inter_channels: int | None = None,
        mode: str = "concatenation",
        sub_sample_factor: int | Sequence[int] = (1,) * dims,
        bn_layer: bool = True,
        use_W: bool = True,
        nonlinearity1: str | None = "relu",
    ) -> Options:
        if mode not in TORR:
            raise ValueError(f"mode must be one of {', '.join(map(repr, TORR))}, got {mode!r}")
        return dict(
            channels=in_channels,
            guide_channels=gating_channels,
            hidden_dim=inter_channels,
            stride=_stride(sub_sample_factor, dims),
            activation=nonlinearity1 or "none",
            normalization=TORR[mode],
            strided_guide=True,
            out=("norm" if bn_layer else "conv") if use_W else "none",
            dims=dims,
        )

    return arguments


def _monai(spatial_dims: int, f_int: int, f_g: int, f_l: int, dropout: float = 0.0) -> Options:
    return dict(
        channels=f_l,
        guide_channels=f_g,
        hidden_dim=f_int,
        stride=1,
        norm=True,
        out="none",
        dims=spatial_dims,
    )


def _ported(F_g: int, F_l: int, F_int: int) -> Options:
    return _monai(2, F_int, F_g, F_l)


NAMES: dict[str, Any] = {"W.0": "out", "W.1": "out_norm"}
# Without a norm after it, the last convolution stands alone.
TORR_NAMES: dict[str, Any] = {**NAMES, "W.weight": "out.weight", "W.bias": "out.bias"}
MONAI_NAMES: dict[str, Any] = {
    "W_g.0.conv": "phi",
    "W_g.1": "phi_norm",
    "W_x.0.conv": "theta",
    "W_x.1": "theta_norm",
    "psi.0.conv": "psi",
    "psi.1": "psi_norm",
}
PORTED_NAMES = {name.removesuffix(".conv"): ours for name, ours in MONAI_NAMES.items()}
ALWAYS = dict(use_phi=True, use_theta=True, use_psi=True)

REFERENCES = (
    Reference(
        "ozan-oktay/Attention-Gated-Networks:GridAttentionBlock2D",
        _grid(2),
        NAMES,
        map="b 1 h w",
    ),
    Reference(
        "ozan-oktay/Attention-Gated-Networks:GridAttentionBlock3D",
        _grid(3),
        NAMES,
        map="b 1 t h w",
    ),
    Reference(
        "ozan-oktay/Attention-Gated-Networks:GridAttentionBlock2D_TORR",
        _torr(2),
        TORR_NAMES,
        fixed=ALWAYS,
        map="b 1 h w",
    ),
    Reference(
        "ozan-oktay/Attention-Gated-Networks:GridAttentionBlock3D_TORR",
        _torr(3),
        TORR_NAMES,
        fixed=ALWAYS,
        map="b 1 t h w",
    ),
    Reference("Project-MONAI/MONAI:AttentionBlock", _monai, MONAI_NAMES, map="b 1 *"),
    Reference(
        "LeeJunHyun/Image_Segmentation:Attention_block",
        _ported,
        PORTED_NAMES,
        map="b 1 h w",
    ),
)
