"""Selective kernel convolution in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Legacy, LegacyKeras, Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _timm(
    in_channels: int,
    out_channels: int | None = None,
    kernel_size: int | Sequence[int] | None = None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    rd_channels: int | None = None,
    keep_3x3: bool = True,
    split_input: bool = True,
) -> Options:
    if split_input:
        raise ValueError(
            "SelectiveKernel: timm's split_input=True gives each branch a part of the channels, "
            "which is not the paper's mechanism; only split_input=False can be loaded"
        )
    if stride > 2:
        raise ValueError(f"SelectiveKernel: timm pads more for a stride of {stride}, above 2")
    kernels = kernel_size or [3, 5]
    if isinstance(kernels, tuple):
        raise ValueError(f"SelectiveKernel: a tuple is one kernel in timm, no list: {kernels}")
    out_channels = out_channels or in_channels
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_sizes=[kernels] * 2 if isinstance(kernels, int) else kernels,
        stride=stride,
        dilation=dilation,
        groups=min(groups, out_channels),
        hidden_dim=rd_channels,
        dilate=keep_3x3,
    )


def _xmu(
    channel: int = 512,
    kernels: Sequence[int] = (1, 3, 5, 7),
    reduction: int = 16,
    group: int = 1,
    L: int = 32,
) -> Options:
    return dict(
        in_channels=channel,
        kernel_sizes=tuple(kernels),
        groups=group,
        reduction=reduction,
        min_hidden_dim=L,
        dilate=False,
    )


def _joined(state: dict[str, Tensor], module: nn.Module) -> State:
    """Concatenate the layers that select, and fold the convolutions' biases into the norms."""
    import torch

    branches = range(sum(name.startswith("fcs.") for name in state) // 2)
    for i in branches:
        mean = f"convs.{i}.bn.running_mean"  # a bias before a norm only shifts its mean
        state[mean] = state[mean] - state.pop(f"convs.{i}.conv.bias")
    for kind in ("weight", "bias"):
        state[f"select.{kind}"] = torch.cat([state.pop(f"fcs.{i}.{kind}") for i in branches])
    return state


TIMM = {
    "attn.fc_reduce": "squeeze",
    "attn.bn": "norm",
    "attn.fc_select": "select",
    "paths.*.conv": "branches.*.0",
    "paths.*.bn": "branches.*.1",
}


def _of_timm(source: str) -> Reference:
    """Return a record of timm's class, with which the authors' Caffe model was run, too."""
    return Reference(
        source,
        _timm,
        TIMM,
        fixed=dict(act_layer="relu", norm_layer="batchnorm2d", aa_layer=None, drop_layer=None),
        ignored=("rd_ratio", "rd_divisor"),
        sizes=lambda s: dict(rd_channels=s["attn.fc_reduce.weight"][0]),
        map="b k o 1 1",
    )


REFERENCES = (
    _of_timm("implus/SKNet"),
    _of_timm("timm:SelectiveKernel"),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SKAttention",
        _xmu,
        {
            "fc": "squeeze",
            "convs.*.conv": "branches.*.0",
            "convs.*.bn": "branches.*.1",
        },
        adapt=_joined,
        map="k b o 1 1",
        differs="has neither a norm nor a ReLU in its hidden layer",
        before=dict(norm=False),
        legacy=Legacy("attention.SKAttention", "channel=512, reduction=8", keras=LegacyKeras()),
    ),
)
