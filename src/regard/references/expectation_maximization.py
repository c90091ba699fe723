"""Expectation-maximization attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "XiaLiPKU/EMANet:EMAU",
        # The authors' training script updates the moving average of the bases.
        lambda c, k, stage_num=3, *, moving_average=True: dict(
            channels=c,
            num_bases=k,
            num_steps=stage_num,
            momentum=0.9 if moving_average else 1.0,
            return_bases=True,
        ),
        {"conv1": "before", "mu": "bases", "conv2": "after"},
        sizes=lambda s: dict(c=s["mu"][1], k=s["mu"][2]),
        map="b n k",
    ),
)
