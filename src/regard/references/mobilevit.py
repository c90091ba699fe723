"""The MobileViT block in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.check import divides
from .record import Legacy, Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

PROJECTIONS = ("query", "key", "value")


def _authors(
    in_channels: int,
    transformer_dim: int,
    ffn_dim: int,
    n_transformer_blocks: int = 2,
    head_dim: int = 32,
    attn_dropout: float = 0.0,
    dropout: float = 0.0,
    ffn_dropout: float = 0.0,
    patch_h: int = 8,
    patch_w: int = 8,
    conv_ksize: int = 3,
    dilation: int = 1,
    no_fusion: bool = False,
) -> Options:
    divides(transformer_dim=transformer_dim, head_dim=head_dim)
    return dict(
        channels=in_channels,
        embed_dim=transformer_dim,
        num_heads=transformer_dim // head_dim,
        num_layers=n_transformer_blocks,
        hidden_dim=ffn_dim,
        patch_size=(patch_h, patch_w),
        kernel_size=conv_ksize,
        dilation=dilation,
        fuse=not no_fusion,
        dropout=dropout,
        attention_dropout=attn_dropout,
        hidden_dropout=ffn_dropout,
    )


def _xmu(
    in_channel: int = 3,
    dim: int = 512,
    kernel_size: int = 3,
    patch_size: int = 7,
    *,
    depth: int = 3,
    heads: int = 8,
    head_dim: int = 64,
    mlp_dim: int = 1024,
) -> Options:
    """Add the sizes of the layers, which are constants in the class and differ in copies."""
    return dict(
        channels=in_channel,
        embed_dim=dim,
        num_heads=heads,
        num_layers=depth,
        hidden_dim=mlp_dim,
        head_dim=head_dim,
        patch_size=patch_size,
        kernel_size=kernel_size,
    )


def _last_norm(state: dict[str, Tensor], module: nn.Module) -> State:
    """Rename the last norm, whose number follows those of the layers."""
    last = len(module.get_submodule("layers"))  # type: ignore[arg-type]
    return {name.replace(f"global_rep.{last}.", "norm."): t for name, t in state.items()}


LAYER = "global_rep.*.pre_norm"

REFERENCES = (
    Reference(
        "apple/ml-cvnets:MobileViTBlock",
        _authors,
        {
            "local_rep.conv_3x3.block.conv": "local.0",
            "local_rep.conv_3x3.block.norm": "local.1",
            "local_rep.conv_1x1.block.conv": "widen",
            "conv_proj.block.conv": "project.0",
            "conv_proj.block.norm": "project.1",
            "fusion.block.conv": "fusion.0",
            "fusion.block.norm": "fusion.1",
            f"{LAYER}_mha.0": "layers.*.attention_norm",
            f"{LAYER}_mha.1.qkv_proj.weight": tuple(
                f"layers.*.attention.{name}.weight" for name in PROJECTIONS
            ),
            f"{LAYER}_mha.1.qkv_proj.bias": tuple(
                f"layers.*.attention.{name}.bias" for name in PROJECTIONS
            ),
            f"{LAYER}_mha.1.out_proj": "layers.*.attention.out",
            f"{LAYER}_ffn.0": "layers.*.feed_norm",
            f"{LAYER}_ffn.1": "layers.*.feed.0",
            f"{LAYER}_ffn.4": "layers.*.feed.3",
        },
        fixed=dict(transformer_norm_layer="layernorm"),
        ignored=("opts", "var_ffn"),
        adapt=_last_norm,
    ),
    Reference(
        "chinhsuanwu/mobilevit-pytorch",
        differs=(
            "has a norm and a SiLU after the convolution before the layers, no norm after the last "
            "layer, and joins x after what was read"
        ),
        loads=False,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:MobileViTAttention",
        _xmu,
        {
            "conv1": "local.0",
            "conv2": "widen",
            "conv3": "project.0",
            "conv4": "fusion.0",
            "trans.layers.*.0.ln": "layers.*.attention_norm",
            "trans.layers.*.0.fn.to_qkv": tuple(f"layers.*.attention.{n}" for n in PROJECTIONS),
            "trans.layers.*.0.fn.to_out.0": "layers.*.attention.out",
            "trans.layers.*.1.ln": "layers.*.feed_norm",
            "trans.layers.*.1.fn.net.0": "layers.*.feed.0",
            "trans.layers.*.1.fn.net.3": "layers.*.feed.3",
        },
        map="b p heads n m",
        differs="has no norms and activations after its convolutions, and no biases in its queries",
        before=dict(norm=False, qkv_bias=False),
        legacy=Legacy("attention.MobileViTAttention", "in_channel=3, dim=512"),
    ),
)
