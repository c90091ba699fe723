"""YOLO's partial self-attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference

LAYERS = {"qkv": "qkv", "pe": "local", "proj": "out"}
NETWORK = {"ffn.0": "expand", "ffn.1": "reduce"}


def _names(**layers: str) -> dict[str, str]:
    """Return the names of convolution and norm of each layer."""
    parts = {"conv": 0, "bn": 1}
    return {f"{n}.{part}": f"{ours}.{i}" for n, ours in layers.items() for part, i in parts.items()}


ATTENTION = _names(**LAYERS)
BLOCK = _names(**{f"attn.{n}": ours for n, ours in LAYERS.items()}, **NETWORK)
SPLIT = {**BLOCK, **_names(cv1="divide", cv2="unite")}


def _attention(dim: int, num_heads: int = 8, attn_ratio: float = 0.5) -> Options:
    return dict(channels=dim, num_heads=num_heads, key_ratio=attn_ratio, form="attention")


def _block(c: int, attn_ratio: float = 0.5, num_heads: int = 4, shortcut: bool = True) -> Options:
    return dict(
        channels=c, num_heads=num_heads, key_ratio=attn_ratio, form="block", shortcut=shortcut
    )


def _split(c1: int, c2: int, e: float = 0.5) -> Options:
    if c1 != c2:
        raise ValueError(f"PSA: c2 must be c1 to be loaded, got {c2} and {c1}")
    return dict(channels=c1, expansion=e)


REFERENCES = (
    Reference("ultralytics:Attention", _attention, ATTENTION, map="b heads n n"),
    Reference("ultralytics:PSABlock", _block, BLOCK, map="b heads n n"),
    Reference("ultralytics:PSA", _split, SPLIT, map="b heads n n"),
    Reference("THU-MIG/yolov10:Attention", _attention, ATTENTION, map="b heads n n"),
    Reference("THU-MIG/yolov10:PSA", _split, SPLIT, map="b heads n n"),
)
