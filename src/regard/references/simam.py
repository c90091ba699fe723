"""SimAM in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

REFERENCES = (
    Reference(
        "ZjjConan/SimAM:simam_module",
        lambda channels=None, e_lambda=1e-4: dict(eps=e_lambda),
        map="b c *",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SimAM",
        lambda channels=None, e_lambda=1e-4: dict(eps=e_lambda),
        map="b c *",
        legacy=Legacy("attention.SimAM"),
    ),
)
