"""Networks based on MobileNetV2 and EfficientNet."""

from __future__ import annotations

from .network import Network, Placement

EXPANDED = "blocks.[1-6].*.bn2"  # after the depthwise convolution of the blocks with expansion 6

MOBILE = (
    Network(
        name="mobilenetv2",
        title="MobileNetV2 1.0",
        backbone="timm:mobilenetv2_100",
        venue="CVPR 2018",
        url="https://arxiv.org/abs/1801.04381",
        record="MobileNetV2 1.0",
        convention="conv+matmul",
        remark="The published count is truncated after its last digit, not rounded.",
    ),
    Network(
        name="triplet_mobilenetv2",
        title="Triplet-MobileNetV2, k = 3",
        backbone="timm:mobilenetv2_100",
        mechanism="triplet",
        places=(
            Placement("triplet", "blocks.0.0.bn2", {"kernel_size": 3}),
            Placement("triplet", "blocks.[1-6].*.bn3", {"kernel_size": 3}),
        ),
        record="Triplet-MobileNetV2 (k=3)",
        convention="ptflops",
    ),
    Network(
        name="coordinate_mobilenetv2",
        title="MobileNetV2 + CoordAtt",
        backbone="timm:mobilenetv2_100",
        mechanism="coordinate",
        places=(Placement("coordinate", EXPANDED),),
        record="MobileNetV2 + CoordAtt",
        convention="conv+matmul",
    ),
    Network(
        name="se_mobilenetv2",
        title="MobileNetV2 + SE, r = 24",
        backbone="timm:mobilenetv2_100",
        mechanism="squeeze_excitation",
        places=(Placement("squeeze_excitation", EXPANDED, {"reduction": 24, "bias": True}),),
        record="MobileNetV2 + SE (CoordAtt paper)",
        convention="conv+matmul",
    ),
    Network(
        name="condconv_efficientnet_b0",
        title="EfficientNet-CondConv-B0, 4 experts",
        backbone="own:condconv.efficientnet",
        arguments={"num_experts": 4},
        mechanism="cond_conv",
        record="EfficientNet-CondConv-B0 (4 experts)",
        convention="fvcore",
    ),
)
