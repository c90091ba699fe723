"""The temporal adaptive module in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _authors(
    in_channels: int, n_segment: int, kernel_size: int = 3, stride: int = 1, padding: int = 1
) -> Options:
    for name, got, want in (("stride", stride, 1), ("padding", padding, kernel_size // 2)):
        if got != want:
            raise ValueError(
                f"TAM: {name} must be {want} for a kernel of {kernel_size}, so that there are as "
                f"many frames, got {got}"
            )
    return dict(channels=in_channels, num_frames=n_segment, kernel_size=kernel_size, folded=True)


REFERENCES = (
    Reference(
        "liu-zhy/temporal-adaptive-module:TAM",
        _authors,
        {"L": "gate", "G": "kernel"},
        map="b c t, kernel: b_c k",
    ),
)
