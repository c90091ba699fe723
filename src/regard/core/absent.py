"""Names of published mechanisms that the catalog knows but does not have, and names of several."""

from __future__ import annotations

from dataclasses import dataclass

LITTLE_USE = "hardly any project uses it"


@dataclass(frozen=True)
class Absent:
    """A mechanism that is not in the catalog.

    Attributes:
        title: The usual name.
        paper: Where it was published.
        reason: Why it is not here.
        names: What people call it.
        instead: The key of the mechanism that comes closest; empty if none does.
    """

    title: str
    paper: str
    reason: str
    names: tuple[str, ...]
    instead: str = ""


ABSENT = (
    Absent(
        "Adaptively spatial feature fusion",
        "Learning Spatial Fusion for Single-Shot Object Detection, arXiv 2019",
        "it replaces the neck of a detector, level by level",
        ("asff", "adaptive_spatial_fusion", "adaptively_spatial_feature_fusion"),
    ),
    Absent(
        "Attentional feature fusion",
        "Attentional Feature Fusion, WACV 2021",
        LITTLE_USE,
        ("aff", "iaff", "attentional_feature_fusion"),
        "feature_fusion",
    ),
    Absent(
        "Content-guided attention",
        "DEA-Net: Single Image Dehazing Based on Detail-Enhanced Convolution, TIP 2024",
        LITTLE_USE,
        ("content_guided", "content_guided_attention", "cgafusion", "cga_fusion", "dea_net"),
        "feature_fusion",
    ),
    Absent(
        "Spatial cross-attention",
        "BEVFormer: Learning Bird's-Eye-View Representation, ECCV 2022",
        "it projects points by the cameras of a car, which a feature does not tell",
        ("spatial_cross", "spatial_cross_attention", "bevformer", "sca"),
        "multi_scale_deformable",
    ),
    Absent(
        "Factorized space-time attention",
        "ViViT: A Video Vision Transformer, ICCV 2021",
        "its encoders are those of a whole model",
        ("factorised_space_time", "factorized_space_time", "vivit"),
        "divided_space_time",
    ),
    Absent(
        "Relative attention",
        "CoAtNet: Marrying Convolution and Attention for All Data Sizes, NeurIPS 2021",
        "it is window attention over one window that is the image",
        ("relative", "relative_attention", "coatnet"),
        "window",
    ),
    Absent(
        "Mobile multi-query attention",
        "MobileNetV4: Universal Models for the Mobile Ecosystem, ECCV 2024",
        "timm has it",
        ("mobile_multi_query", "mobile_mqa", "mobilenetv4", "multi_query"),
        "spatial_reduction",
    ),
    Absent(
        "Sliding dilated attention",
        "DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition, TMM 2023",
        "neighborhood attention with a dilation computes almost the same",
        ("sliding_dilated", "dilateformer", "msda_dilated", "sliding_window_dilated"),
        "neighborhood",
    ),
    Absent(
        "Mamba-like linear attention",
        "Demystify Mamba in Vision: A Linear Attention Perspective, NeurIPS 2024",
        "other linear attention covers what it weighs",
        ("mlla", "mamba_like_linear"),
        "focused_linear",
    ),
    Absent(
        "Polarity-aware linear attention",
        "PolaFormer: Polarity-aware Linear Attention for Vision Transformers, ICLR 2025",
        "other linear attention covers what it weighs",
        ("polaformer", "polarity_aware"),
        "focused_linear",
    ),
    Absent(
        "Channel-wise cross attention",
        "UCTransNet: Rethinking the Skip Connections in U-Net, AAAI 2022",
        LITTLE_USE,
        ("uctransnet", "channel_cross_attention", "cca"),
        "attention_gate",
    ),
    Absent(
        "Contrast-aware channel attention",
        "Lightweight Image Super-Resolution with Information Multi-distillation, ACM MM 2019",
        LITTLE_USE,
        ("contrast_channel", "contrast_aware_channel", "imdn", "cca"),
        "squeeze_excitation",
    ),
    Absent(
        "Gaussian context transformer",
        "Gaussian Context Transformer, CVPR 2021",
        LITTLE_USE,
        ("gaussian_context", "gaussian_context_transformer", "gct"),
    ),
    Absent(
        "Dual aggregation transformer",
        "Dual Aggregation Transformer for Image Super-Resolution, ICCV 2023",
        LITTLE_USE,
        ("dual_aggregation", "dual_aggregation_transformer", "dat"),
    ),
    Absent(
        "Efficient long-range attention",
        "Efficient Long-Range Attention Network for Image Super-Resolution, ECCV 2022",
        LITTLE_USE,
        ("elan", "efficient_long_range", "ela"),
        "window",
    ),
    Absent(
        "Pixel attention",
        "Efficient Image Super-Resolution Using Pixel Attention, ECCV workshops 2020",
        LITTLE_USE,
        ("pixel_attention", "pan", "pa"),
    ),
    Absent(
        "Feature pyramid attention",
        "Pyramid Attention Network for Semantic Segmentation, BMVC 2018",
        LITTLE_USE,
        ("pyramid_attention", "feature_pyramid_attention", "pa"),
    ),
    Absent(
        "Multipath coordinate attention",
        "no paper: a module of a collection for YOLO",
        "nothing is published that it could be equal to",
        ("mpca", "multipath_coordinate"),
        "coordinate",
    ),
    Absent(
        "Linear context transform",
        "Linear Context Transform Block, AAAI 2020",
        LITTLE_USE,
        ("linear_context", "lct"),
    ),
    Absent(
        "Relation-aware global attention",
        "Relation-Aware Global Attention for Person Re-identification, CVPR 2020",
        LITTLE_USE,
        ("relation_aware_global", "rga"),
    ),
    Absent(
        "Dense-and-implicit attention",
        "DIANet: Dense-and-Implicit Attention Network, AAAI 2020",
        LITTLE_USE,
        ("dianet", "dense_implicit"),
    ),
    Absent(
        "Lambda layer",
        "LambdaNetworks: Modeling Long-Range Interactions Without Attention, ICLR 2021",
        LITTLE_USE,
        ("lambda_layer", "lambda", "lambdanetworks"),
    ),
    Absent(
        "Agent attention",
        "Agent Attention: On the Integration of Softmax and Linear Attention, ECCV 2024",
        LITTLE_USE,
        ("agent", "agent_attention"),
    ),
    Absent(
        "Performer",
        "Rethinking Attention with Performers, ICLR 2021",
        LITTLE_USE,
        ("performer", "favor"),
    ),
    Absent(
        "Linformer",
        "Linformer: Self-Attention with Linear Complexity, arXiv 2020",
        LITTLE_USE,
        ("linformer",),
    ),
    Absent(
        "Nyström attention",
        "Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention, AAAI 2021",
        LITTLE_USE,
        ("nystrom", "nystromformer"),
    ),
)

# Names of one or more mechanisms of the catalog beside those on their cards.
SHARED = {
    "a2": ("area", "double_attention"),
    "aa": ("area", "attention_augmented_conv", "axial"),
    "ca": ("coordinate", "squeeze_excitation"),
    "bilevelroutingattention_nchw": ("bilevel_routing",),
    "mhsa": ("multi_head",),
    "sequential_self_attention": ("polarized",),
    "sca": ("simplified_channel",),
    "pa": ("pointwise_spatial", "polarized"),
}
