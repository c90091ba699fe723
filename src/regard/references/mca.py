"""Multidimensional collaborative attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "ndsclark/MCANet:MCALayer",
        lambda inp, no_spatial=False: dict(channels=inp, channel_gate=not no_spatial),
        {
            "h_cw.conv": "mix.h",
            "h_cw.weight": "share.h",
            "w_hc.conv": "mix.w",
            "w_hc.weight": "share.w",
            "c_hw.conv": "mix.channel",
            "c_hw.weight": "share.channel",
        },
        map="h: b h 1 1, w: b w 1 1, channel: b c 1 1",
    ),
)
