"""Frequency channel attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "cfzd/FcaNet:MultiSpectralAttentionLayer",
        lambda channel, dct_h, dct_w, reduction=16, freq_sel_method="top16": dict(
            channels=channel,
            reduction=reduction,
            num_frequencies=int(freq_sel_method[3:]),
            selection=freq_sel_method[:3],
            grid_size=(dct_h, dct_w),
        ),
        {"dct_layer.weight": "basis", "fc.0": "squeeze", "fc.2": "excite"},
        map="b c",
    ),
)
