"""Object-contextual representations in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _openseg(
    in_channels: int,
    key_channels: int,
    out_channels: int,
    scale: int = 1,
    dropout: float = 0.1,
    gather_scale: float = 1,
) -> Options:
    return dict(
        channels=in_channels,
        key_channels=key_channels,
        out_channels=out_channels,
        scale=scale,
        region_scale=float(gather_scale),
        dropout=dropout,
    )


def _hrnet(
    in_channels: int,
    key_channels: int,
    out_channels: int,
    scale: int = 1,
    dropout: float = 0.1,
    gather_scale: float = 1,
) -> Options:
    found = _openseg(in_channels, key_channels, out_channels, scale, dropout, gather_scale)
    return found | dict(bias=False)


def _without_prefix(state: dict[str, Tensor], module: nn.Module) -> State:
    """Remove the name of the module that gathers nothing but what the guide says."""
    return {name.removeprefix("distri."): t for name, t in state.items()}


NAMES: dict[str, str | tuple[str, ...]] = {
    "object_context_block.f_pixel.0": "query.0.0",
    "object_context_block.f_pixel.1.0": "query.0.1",
    "object_context_block.f_pixel.2": "query.1.0",
    "object_context_block.f_pixel.3.0": "query.1.1",
    "object_context_block.f_object.0": "key.0.0",
    "object_context_block.f_object.1.0": "key.0.1",
    "object_context_block.f_object.2": "key.1.0",
    "object_context_block.f_object.3.0": "key.1.1",
    "object_context_block.f_down.0": "value.0",
    "object_context_block.f_down.1.0": "value.1",
    "object_context_block.f_up.0": "out.0",
    "object_context_block.f_up.1.0": "out.1",
    "conv_bn_dropout.0": "fuse.0",
    "conv_bn_dropout.1.0": "fuse.1",
}

REFERENCES = (
    Reference(
        "openseg-group/openseg.pytorch:SpatialOCR_Module",
        _openseg,
        NAMES,
        ignored=("bn_type", "cls_num"),
        adapt=_without_prefix,
        map="region: b k n, pixel: b m k",
    ),
    Reference(
        "HRNet/HRNet-Semantic-Segmentation:SpatialOCR_Module",
        _hrnet,
        NAMES,
        ignored=("cls_num",),
        adapt=_without_prefix,
        map="region: b k n, pixel: b m k",
    ),
)
