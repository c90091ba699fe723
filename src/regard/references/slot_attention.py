"""Slot attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _authors(
    shapes: Shapes,
    num_iterations: int,
    num_slots: int,
    slot_size: int,
    mlp_hidden_size: int,
    epsilon: float = 1e-8,
) -> Options:
    return dict(
        embed_dim=slot_size,
        kdim=shapes["project_k.kernel"][0],
        iterations=num_iterations,
        hidden_dim=mlp_hidden_size,
        eps=epsilon,
    )


def _turned(state: dict[str, Tensor], module: nn.Module) -> State:
    """Turn Keras' kernels, and put the gates of its unit in torch's order."""
    import torch

    turned = {}
    for name, t in state.items():
        if name.startswith("gru."):
            z, r, h = t.chunk(3, -1)
            t = torch.cat([r, z, h], -1)
        if name == "gru.bias":
            turned |= {"gru.read.bias": t[0], "gru.keep.bias": t[1]}
        else:
            turned[name] = t.T if name.endswith("kernel") else t
    return turned


def _lucidrains(
    num_slots: int, dim: int, iters: int = 3, eps: float = 1e-8, hidden_dim: int = 128
) -> Options:
    return dict(
        embed_dim=dim,
        iterations=iters,
        eps=eps,
        hidden_dim=max(dim, hidden_dim),
        bias=True,
        norm_eps=1e-5,
    )


REFERENCES = (
    Reference(
        "google-research/google-research:SlotAttention",
        _authors,
        {
            "slots_mu": "mean",
            "slots_log_sigma": "log_spread",
            "norm_inputs.gamma": "norm.weight",
            "norm_inputs.beta": "norm.bias",
            "norm_slots.gamma": "slot_norm.weight",
            "norm_slots.beta": "slot_norm.bias",
            "norm_mlp.gamma": "mlp_norm.weight",
            "norm_mlp.beta": "mlp_norm.bias",
            "project_q.kernel": "query.weight",
            "project_k.kernel": "key.weight",
            "project_v.kernel": "value.weight",
            "gru.kernel": "input_gates.weight",
            "gru.recurrent_kernel": "slot_gates.weight",
            "gru.read.bias": "input_gates.bias",
            "gru.keep.bias": "slot_gates.bias",
            "mlp.0.kernel": "expand.weight",
            "mlp.0.bias": "expand.bias",
            "mlp.1.kernel": "reduce.weight",
            "mlp.1.bias": "reduce.bias",
        },
        ignored=("inputs_size",),
        adapt=_turned,
        map="0: b m n",
    ),
    Reference(
        "lucidrains/slot-attention:SlotAttention",
        _lucidrains,
        {
            "slots_mu": "mean",
            "slots_logsigma": "log_spread",
            "to_q": "query",
            "to_k": "key",
            "to_v": "value",
            "gru.weight_ih": "input_gates.weight",
            "gru.bias_ih": "input_gates.bias",
            "gru.weight_hh": "slot_gates.weight",
            "gru.bias_hh": "slot_gates.bias",
            "mlp.0": "expand",
            "mlp.2": "reduce",
            "norm_input": "norm",
            "norm_slots": "slot_norm",
            "norm_pre_ff": "mlp_norm",
        },
        map="0: b n m",
    ),
)
