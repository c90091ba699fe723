"""DySample in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _authors(
    in_channels: int, scale: int = 2, style: str = "lp", groups: int = 4, dyscope: bool = False
) -> Options:
    return dict(
        channels=in_channels,
        scale_factor=scale,
        groups=groups,
        style=style,
        dynamic_scope=dyscope,
    )


REFERENCES = (
    Reference(
        "tiny-smart/dysample:DySample",
        _authors,
        # Constants that follow from the arguments.
        unread=("init_pos",),
        map="offset: b a_g_i_j h w, grid: b_g y x a",
    ),
)
