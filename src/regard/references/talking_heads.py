"""Talking-heads attention in other people's code."""

from __future__ import annotations

from .class_attention import arguments, timm_arguments
from .record import Reference

NAMES = {
    "qkv": ("query", "key", "value"),
    "proj_l": "mix_scores",
    "proj_w": "mix_weights",
    "proj": "out",
}
MAPS = "b heads n n, softmax: b heads n n"

REFERENCES = (
    Reference("facebookresearch/deit:Attention_talking_head", arguments, NAMES, map=MAPS),
    Reference("timm:TalkingHeadAttn", timm_arguments, NAMES, map=MAPS),
)
