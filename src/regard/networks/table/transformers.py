"""Networks that consist of attention layers."""

from __future__ import annotations

from .network import Network

TRANSFORMERS = (
    Network(
        name="vit_base_patch16",
        title="ViT-B/16",
        backbone="own:vit.vision_transformer",
        arguments={"embed_dim": 768, "depth": 12, "num_heads": 12, "patch_size": 16},
        mechanism="vision_transformer",
        record="ViT-B/16",
        convention="conv+matmul",
    ),
    Network(
        name="transformer_base",
        title="Transformer base",
        backbone="own:transformer.Translator",
        arguments={"num_classes": 37000, "embed_dim": 512, "num_heads": 8, "final_norm": False},
        mechanism="transformer",
        input=((25,), (25,)),
        record="Transformer base (body)",
        remark="The printed 65M needs a vocabulary of about 40,700; with the 37,000 tokens of the "
        "paper, it is 63.1M.",
    ),
)
