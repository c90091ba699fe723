"""The Vision Transformer in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.check import one_of
from .reading import rename
from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

PROJECTIONS = ("query", "key", "value")  # in the order of stacked weights
TIMM_POOLS = {"token": "class", "avg": "mean", "": None}
Sizes = int | Sequence[int]


def _timm(
    shapes: Shapes,
    img_size: Sizes = 224,
    patch_size: Sizes = 16,
    in_chans: int = 3,
    num_classes: int = 1000,
    global_pool: str = "token",
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    init_values: float | None = None,
    no_embed_class: bool = False,
    reg_tokens: int = 0,
    pool_include_prefix: bool = False,
    pos_drop_rate: float = 0.0,
    proj_drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
) -> Options:
    one_of(tuple(TIMM_POOLS), global_pool=global_pool)
    pool = TIMM_POOLS[global_pool]
    norms = {"tokens": "norm.weight", "pooled": "fc_norm.weight"}
    return dict(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        image_size=img_size,
        patch_size=patch_size,
        in_channels=in_chans,
        num_classes=num_classes or None,
        mlp_dim=shapes["blocks.0.mlp.fc1.weight"][0],
        global_pool="all" if pool == "mean" and pool_include_prefix else pool,
        class_token="cls_token" in shapes,
        num_registers=reg_tokens or None,
        class_position=not no_embed_class,
        last_norm=next((where for where, norm in norms.items() if norm in shapes), None),
        qkv_bias="blocks.0.attn.qkv.bias" in shapes,
        out_bias="blocks.0.attn.proj.bias" in shapes,
        mlp_bias="blocks.0.mlp.fc1.bias" in shapes,
        layer_scale=init_values,
        dropout=proj_drop_rate,
        embed_dropout=pos_drop_rate,
        attention_dropout=attn_drop_rate,
    )


def _vit_pytorch(
    shapes: Shapes,
    *,
    image_size: Sizes,
    patch_size: Sizes,
    num_classes: int,
    dim: int,
    depth: int,
    heads: int,
    mlp_dim: int,
    pool: str | None = None,
    channels: int = 3,
    dim_head: int = 64,
    dropout: float = 0.0,
    emb_dropout: float = 0.0,
) -> Options:
    """Translate ViT and SimpleViT; the state dict shows what differs between versions."""
    learned, has_class = "pos_embedding" in shapes, 0 not in shapes.get("cls_token", (0,))
    pools = {"cls": "class", "mean": "all" if has_class else "mean"}
    pool = pool or ("cls" if learned else "mean")
    one_of(tuple(pools), pool=pool)
    outs = ("to_out", "to_out.0", "fn.to_out.0")
    return dict(
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=channels,
        num_classes=num_classes or None,
        mlp_dim=mlp_dim,
        head_dim=dim_head,
        global_pool=pools[pool] if num_classes else None,
        class_token=has_class,
        positions="learned" if learned else "sincos",
        patch_norm="to_patch_embedding.3.weight" in shapes,
        last_norm="tokens" if "transformer.norm.weight" in shapes else "pooled",
        qkv_bias=False,
        out_bias=any(f"transformer.layers.0.0.{out}.bias" in shapes for out in outs),
        eps=1e-5,
        dropout=dropout,
        embed_dropout=emb_dropout,
        attention_dropout=dropout,
    )


def _flat_patch(state: dict[str, Tensor], module: nn.Module) -> State:
    """Flatten the kernel of timm's patch embedding, which is a convolution."""
    return {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)}


def _channels_first(state: dict[str, Tensor], module: nn.Module) -> State:
    """Move channels before positions in a patch, and add the layer that a single head lacks."""
    import torch

    state = {name: tensor for name, tensor in state.items() if tensor.numel()}
    if "to_patch_embedding.3.weight" not in state:  # there is no norm before the layer
        state = rename(state, {"to_patch_embedding.1": "to_patch_embedding.2"})
    width, pixels = module.get_parameter("patch.weight").shape
    h, w = module.patch_size  # type: ignore[misc]
    for name in ("1.weight", "1.bias", "2.weight"):
        if (name := f"to_patch_embedding.{name}") in state:
            patch = state[name].unflatten(-1, (h, w, pixels // (h * w)))
            state[name] = patch.movedim(-1, -3).flatten(-3)
    if not any(".to_out." in name for name in state):
        for i in range(len(module.blocks)):  # type: ignore[arg-type]
            state[f"transformer.layers.{i}.0.to_out.weight"] = torch.eye(width)
    return state


def _stacked(there: str, here: str) -> dict[str, tuple[str, ...]]:
    return {there: tuple(f"{here}.{name}" for name in PROJECTIONS)}


LAYER = "transformer.layers.*"
TIMM = {
    "patch_embed.proj": "patch",
    "cls_token": "class_token",
    "reg_token": "registers",
    "pos_embed": "position",
    "blocks.*.norm1": "blocks.*.attention_norm",
    **_stacked("blocks.*.attn.qkv", "blocks.*.attention"),
    "blocks.*.attn.proj": "blocks.*.attention.out",
    "blocks.*.ls1.gamma": "blocks.*.attention_scale",
    "blocks.*.norm2": "blocks.*.mlp_norm",
    "blocks.*.mlp.fc1": "blocks.*.expand",
    "blocks.*.mlp.fc2": "blocks.*.contract",
    "blocks.*.ls2.gamma": "blocks.*.mlp_scale",
    "fc_norm": "pooled_norm",
}
VIT_PYTORCH = {
    "to_patch_embedding.1": "patch_norm",
    "to_patch_embedding.2": "patch",
    "to_patch_embedding.3": "embed_norm",
    "cls_token": "class_token",
    "pos_embedding": "position",
    f"{LAYER}.0.norm": "blocks.*.attention_norm",
    **_stacked(f"{LAYER}.0.to_qkv", "blocks.*.attention"),
    **_stacked(f"{LAYER}.0.fn.to_qkv", "blocks.*.attention"),
    f"{LAYER}.0.to_out": "blocks.*.attention.out",
    f"{LAYER}.0.to_out.0": "blocks.*.attention.out",
    f"{LAYER}.0.fn.to_out.0": "blocks.*.attention.out",
    f"{LAYER}.1.norm": "blocks.*.mlp_norm",
    f"{LAYER}.1.net.0": "blocks.*.mlp_norm",
    f"{LAYER}.1.net.1": "blocks.*.expand",
    f"{LAYER}.1.net.3": "blocks.*.contract",
    f"{LAYER}.1.net.4": "blocks.*.contract",
    f"{LAYER}.1.fn.net.0": "blocks.*.expand",
    f"{LAYER}.1.fn.net.3": "blocks.*.contract",
    "transformer.norm": "norm",
    "linear_head": "head",
    "mlp_head": "head",
    "mlp_head.0": "pooled_norm",
    "mlp_head.1": "head",
}

REFERENCES = (
    Reference(
        "timm:VisionTransformer",
        _timm,
        TIMM,
        fixed=dict(
            qk_norm=False,
            scale_attn_norm=False,
            scale_mlp_norm=False,
            pos_embed="learn",
            pre_norm=False,
            act_layer=None,
            norm_layer=None,
            embed_norm_layer=None,
            # These act in training only, and regard has no such options.
            drop_rate=0.0,
            patch_drop_rate=0.0,
            drop_path_rate=0.0,
        ),
        ignored=(
            "mlp_ratio",
            "qkv_bias",
            "proj_bias",
            "class_token",
            "final_norm",
            "fc_norm",
            "dynamic_img_size",
            "dynamic_img_pad",
            "weight_init",
            "fix_init",
        ),
        adapt=_flat_patch,
        map="b heads n m",
    ),
    Reference(
        "lucidrains/vit-pytorch:ViT",
        _vit_pytorch,
        VIT_PYTORCH,
        adapt=_channels_first,
        map="b heads n m",
    ),
    Reference(
        "lucidrains/vit-pytorch:SimpleViT",
        _vit_pytorch,
        VIT_PYTORCH,
        adapt=_channels_first,
        map="b heads n m",
    ),
)
