"""Area attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference, Shapes

NAMES = {
    "qkv.conv": "qkv.0",
    "qkv.bn": "qkv.1",
    "qk.conv": "qk.0",
    "qk.bn": "qk.1",
    "v.conv": "value.0",
    "v.bn": "value.1",
    "pe.conv": "local.0",
    "pe.bn": "local.1",
    "proj.conv": "out.0",
    "proj.bn": "out.1",
}


def _arguments(shapes: Shapes, dim: int, num_heads: int, area: int = 1) -> Options:
    """Translate both forms of the class, which have the same arguments."""
    return dict(
        channels=dim,
        num_heads=num_heads,
        areas=area,
        kernel_size=shapes["pe.conv.weight"][-1],
        joint="qkv.conv.weight" in shapes,
    )


REFERENCES = (
    Reference("ultralytics:AAttn", _arguments, NAMES, map="b_g heads q k"),
    Reference("sunsmarterjie/yolov12:AAttn", _arguments, NAMES, map="b_g heads q k"),
)
