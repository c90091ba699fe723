"""Ours are the models of timm, at their own and at other sizes; what is refused; the maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import interpolate

import regard
from cases import randomize
from closeness import assert_same
from regard.mechanisms.vision_transformer import resample

timm = pytest.importorskip("timm")

TINY = dict(img_size=(48, 32), embed_dim=192, depth=2, num_heads=3)
SMALL = dict(img_size=(42, 28), patch_size=14, embed_dim=384, num_heads=6)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("vit_tiny_patch16_224", {}),
    "average": ("vit_tiny_patch16_224", dict(global_pool="avg")),
    "average of all": (
        "vit_tiny_patch16_224",
        dict(global_pool="avg", pool_include_prefix=True, fc_norm=False),
    ),
    "tokens": ("vit_tiny_patch16_224", dict(global_pool="", num_classes=0)),
    "features": ("vit_tiny_patch16_224", dict(num_classes=0, final_norm=False)),
    "scaled": ("vit_tiny_patch16_224", dict(init_values=1e-5)),
    "no bias": ("vit_tiny_patch16_224", dict(qkv_bias=False, proj_bias=False)),
    "no class token": ("vit_tiny_patch16_224", dict(class_token=False, global_pool="avg")),
    "registers": ("vit_tiny_patch16_224", dict(reg_tokens=4)),
    "rates": ("vit_tiny_patch16_224", dict(proj_drop_rate=0.1, attn_drop_rate=0.1)),
    "DeiT": ("deit_tiny_patch16_224", {}),
    "DeiT III": ("deit3_small_patch16_224", dict(no_embed_class=True, init_values=1e-6)),
    "DINOv2": ("vit_small_patch14_dinov2", SMALL | dict(init_values=1e-5, num_classes=0)),
    "DINOv2 with registers": (
        "vit_small_patch14_reg4_dinov2",
        SMALL | dict(init_values=1e-5, num_classes=0, reg_tokens=4, no_embed_class=True),
    ),
}


def build(case: str, **more: Any) -> tuple[Any, Any]:
    """A model of timm with random weights, and ours with the same."""
    name, changes = MODELS[case]
    kwargs = TINY | changes
    theirs = randomize(timm.create_model(name, **kwargs, **more).double().eval())
    ours = regard.load_reference("vision_transformer", "timm", kwargs, theirs.state_dict())
    return theirs, ours.eval()


@pytest.mark.parametrize("case", MODELS)
def test_a_model_of_timm_gives_the_same(case: str) -> None:
    theirs, ours = build(case)
    x = torch.randn(2, 3, *theirs.patch_embed.img_size, dtype=torch.float64)
    assert_same(ours(x), theirs(x))
    assert_same(ours.forward_features(x), theirs.forward_features(x), "features")


@pytest.mark.parametrize("case", ["tiny", "registers", "DeiT III"])
@pytest.mark.parametrize("size", [(64, 80), (16, 32), (32, 48)], ids=str)
def test_another_size_gives_what_timm_gives(case: str, size: tuple[int, int]) -> None:
    """Which interpolates in single precision."""
    theirs, ours = build(case, dynamic_img_size=True)
    x = torch.randn(2, 3, *size)
    assert_same(ours.float()(x), theirs.float()(x), dtype=torch.float32)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 7), (9, 14), (40, 3)], ids=str)
def test_positions_are_interpolated_as_timm_does(size: tuple[int, int]) -> None:
    position = torch.randn(28, 6, dtype=torch.float64)
    got = resample(position, (4, 7), torch.empty(1, *size, 6))
    image = position.unflatten(0, (4, 7)).permute(2, 0, 1)[None]
    want = interpolate(image, size, mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    assert_same(got, want)
    theirs = timm.layers.resample_abs_pos_embed(position[None], size, (4, 7), 0)[0]
    assert_same(got.flatten(0, 1), theirs, dtype=torch.float32)


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        (dict(global_pool="map"), "global_pool must be one of 'token', 'avg', ''"),
        (dict(act_layer="quick_gelu"), "act_layer must be None to be loaded"),
        (dict(drop_path_rate=0.1), "drop_path_rate must be 0.0 to be loaded"),
        (dict(qk_norm=True), "qk_norm must be False to be loaded"),
        (dict(pre_norm=True), "pre_norm must be False to be loaded"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_what_cannot_be_translated_is_refused(kwargs: dict[str, Any], told: str) -> None:
    small = dict(img_size=16, embed_dim=24, depth=1, num_heads=3) | kwargs
    theirs = timm.models.vision_transformer.VisionTransformer(**small)
    with pytest.raises(ValueError, match=told):
        regard.load_reference("vision_transformer", "timm", small, theirs.state_dict())


def test_a_single_head_without_a_last_projection_is_read() -> None:
    """So vit-pytorch has it where the head is as wide as the tokens."""
    kwargs = dict(image_size=8, patch_size=4, num_classes=3, dim=8, depth=2, heads=1, mlp_dim=9)
    kwargs |= dict(dim_head=8, pool="mean")
    ours = randomize(
        regard.create(
            "vit", 8, 2, 1, image_size=8, patch_size=4, num_classes=3, mlp_dim=9, global_pool="all"
        )
    )
    state = {"cls_token": ours.class_token, "pos_embedding": ours.position}
    state |= {f"mlp_head.1.{n}": t for n, t in ours.head.named_parameters()}
    state |= {f"mlp_head.0.{n}": t for n, t in ours.norm.named_parameters()}
    pixels = ours.patch.weight.unflatten(1, (3, 4, 4)).movedim(1, 3).flatten(1)
    state |= {"to_patch_embedding.1.weight": pixels, "to_patch_embedding.1.bias": ours.patch.bias}
    for i, block in enumerate(ours.blocks):
        layer = f"transformer.layers.{i}"
        state |= {f"{layer}.0.norm.{n}": t for n, t in block.attention_norm.named_parameters()}
        state |= {f"{layer}.1.norm.{n}": t for n, t in block.mlp_norm.named_parameters()}
        state |= {f"{layer}.1.fn.net.0.{n}": t for n, t in block.expand.named_parameters()}
        state |= {f"{layer}.1.fn.net.3.{n}": t for n, t in block.contract.named_parameters()}
        own = block.attention
        with torch.no_grad():
            own.out.weight.copy_(torch.eye(8))
            for projection in (own.query, own.key, own.value, own.out):
                projection.bias.zero_()
        stacked = torch.cat([own.query.weight, own.key.weight, own.value.weight])
        state[f"{layer}.0.fn.to_qkv.weight"] = stacked
    got = regard.load_reference("vit", "lucidrains/vit-pytorch:ViT", kwargs, state).eval()
    x = torch.randn(2, 3, 8, 8)
    ours.norm, ours.pooled_norm = ours.pooled_norm, ours.norm
    for module in ours.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    assert_same(got(x), ours.eval()(x), dtype=torch.float32)


@pytest.mark.parametrize("depth", [1, 3])
def test_every_block_has_a_map(depth: int) -> None:
    model = regard.create("vit", 16, depth, num_heads=2, image_size=8, patch_size=2, num_classes=3)
    seen: list[torch.Tensor] = []
    for block in model.blocks:
        block.attention.tap.register_forward_hook(lambda tap, args, a: seen.append(a))
    model(torch.randn(2, 3, 8, 12))
    assert [tuple(a.shape) for a in seen] == [(2, 2, 25, 25)] * depth
