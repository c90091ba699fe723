"""Focal modulation in other people's code."""

from __future__ import annotations

from .record import Options, Reference, Shapes

LAYERS = {"f": "split", "focal_layers.*.0": "gather.*", "h": "mix", "proj": "project"}


def _authors(
    dim: int,
    focal_window: int,
    focal_level: int,
    focal_factor: int = 2,
    bias: bool = True,
    proj_drop: float = 0.0,
    use_postln_in_modulation: bool = False,
    normalize_modulator: bool = False,
) -> Options:
    return dict(
        channels=dim,
        levels=focal_level,
        kernel_size=focal_window,
        kernel_step=focal_factor,
        bias=bias,
        norm=use_postln_in_modulation,
        normalize=normalize_modulator,
        dropout=proj_drop,
    )


def _timm(
    dim: int,
    focal_window: int,
    focal_level: int,
    focal_factor: int = 2,
    bias: bool = True,
    use_post_norm: bool = False,
    normalize_modulator: bool = False,
    proj_drop: float = 0.0,
) -> Options:
    options = _authors(dim, focal_window, focal_level, focal_factor, bias, proj_drop, use_post_norm)
    return {**options, "normalize": normalize_modulator, "eps": 1e-6}


def _sizes(shapes: Shapes) -> Options:
    window = shapes["focal_layers.0.0.weight"][-1]
    levels = sum(name.startswith("focal_layers.") for name in shapes)
    return dict(dim=shapes["h.weight"][0], focal_window=window, focal_level=levels)


REFERENCES = (
    Reference(
        "microsoft/FocalNet:FocalModulation",
        _authors,
        {**LAYERS, "ln": "norm"},
        sizes=_sizes,
        map="b c h w",
    ),
    Reference(
        "timm:FocalModulation",
        _timm,
        LAYERS,
        fixed=dict(norm_layer="layernorm2d"),
        sizes=_sizes,
        map="b c h w",
    ),
)
