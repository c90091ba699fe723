"""SEAM in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

MIXER = {
    "0.fn.0": "depthwise",
    "0.fn.2": "depthwise_norm",
    "1": "pointwise",
    "3": "pointwise_norm",
}
GATE = {"fc.0": "squeeze", "fc.2": "excite"}


def _single(c1: int, c2: int, n: int, reduction: int = 16) -> Options:
    return dict(channels=c1, reduction=reduction, depth=n)


def _several(
    c1: int,
    c2: int,
    depth: int,
    kernel_size: int = 3,
    patch_size: Sequence[int] = (3, 5, 7),
    reduction: int = 16,
) -> Options:
    if kernel_size != 3:  # the authors' class cannot run then
        raise ValueError(f"MultiSEAM: kernel_size must be 3 to be loaded, got {kernel_size}")
    return dict(channels=c1, reduction=reduction, depth=depth, patch_sizes=tuple(patch_size))


REFERENCES = (
    Reference(
        "Krasjet-Yu/YOLO-FaceV2:SEAM",
        _single,
        {**GATE, **{f"DCovN.*.{name}": f"branches.0.*.{ours}" for name, ours in MIXER.items()}},
        map="b c 1 1",
    ),
    Reference(
        "Krasjet-Yu/YOLO-FaceV2:MultiSEAM",
        _several,
        {
            **GATE,
            "DCovN*.0": "branches.*.0",
            "DCovN*.2": "branches.*.2",
            **{f"DCovN*.*.{name}": f"branches.*.*.{ours}" for name, ours in MIXER.items()},
        },
        map="b c 1 1",
    ),
)
