"""The table of old classes: where each stood, what it took, and which mechanism takes its place.

The two libraries are xmu-xiaoma666/External-Attention-pytorch, of which fightingcv-attention on
PyPI is a copy, and ccfco-Ivan/External-Attention-tensorflow.
"""

from __future__ import annotations

from . import arguments
from .old import Keras, Old

# The choices that polarized self-attention has in its paper.
PAPER = dict(softmax="channels", transform="norm", bias=True)
SOURCE = "xmu-xiaoma666/External-Attention-pytorch"

OLD = (
    Old(
        "attention.ExternalAttention",
        "ExternalAttention",
        "ExternalAttention",
        lambda d_model, S=64: dict(width=d_model, slots=S),
        "d_model=512, S=8",
        before=dict(eps=0.0),
        sizes=lambda s: dict(d_model=s["mk.weight"][1], S=s["mk.weight"][0]),
        keras=Keras(),
    ),
    Old(
        "attention.SelfAttention",
        "ScaledDotProductAttention",
        "MultiHead",
        lambda d_model, d_k, d_v, h, dropout=0.1: dict(
            width=d_model, heads=h, head_width=d_k, value_head_width=d_v, dropout=dropout
        ),
        "d_model=512, d_k=512, d_v=512, h=8",
        call="Queries",
        keras=Keras(was="ran only where d_k = d_v = d_model, and multiplied the scores by a mask"),
    ),
    Old(
        "attention.SimplifiedSelfAttention",
        "SimplifiedScaledDotProductAttention",
        "SimplifiedAttention",
        lambda d_model, h, dropout=0.1: dict(width=d_model, heads=h, dropout=dropout),
        "d_model=512, h=8",
        call="Queries",
        keras=Keras(was="could not run with a mask"),
    ),
    Old(
        "attention.SEAttention",
        "SEAttention",
        "SqueezeExcitation",
        lambda channel=512, reduction=16: dict(channels=channel, reduction=reduction),
        "channel=512, reduction=8",
        sizes=lambda s: dict(
            channel=s["fc.0.weight"][1], reduction=s["fc.0.weight"][1] // s["fc.0.weight"][0]
        ),
        keras=Keras(),
    ),
    Old(
        "attention.SKAttention",
        "SKAttention",
        "SelectiveKernel",
        arguments.selective_kernel,
        "channel=512, reduction=8",
        was="had neither a norm nor a ReLU in its hidden layer",
        before=dict(norm=False),
        keras=Keras(),
    ),
    Old(
        "attention.CBAM",
        "CBAMBlock",
        "CBAM",
        lambda channel=512, reduction=16, kernel_size=49: dict(
            channels=channel, reduction=reduction, kernel_size=kernel_size
        ),
        "channel=512, reduction=16, kernel_size=7",
        was="added its input to its output, and had no norm behind its spatial kernel",
        before=dict(residual=True, norm=False, bias=False, spatial_bias=True),
        keras=Keras(),
    ),
    Old(
        "attention.BAM",
        "BAMBlock",
        "BAM",
        lambda channel=512, reduction=16, dia_val=2: dict(
            channels=channel, reduction=reduction, dilation=dia_val, fusion="sum"
        ),
        "channel=512, reduction=16, dia_val=2",
        was=(
            "dilated without padding, so that it ran on 7 x 7 maps only and saw no position there, "
            "and had three hidden layers for one and three dilated convolutions for two"
        ),
        keras=Keras(was="had three hidden layers for one and three dilated convolutions for two"),
    ),
    Old(
        "attention.ECAAttention",
        "ECAAttention",
        "ECA",
        lambda kernel_size=3: dict(channels=None, kernel_size=kernel_size),
        "kernel_size=3",
        was="added a bias to every score",
        before=dict(bias=True),
        sizes=lambda s: dict(kernel_size=s["conv.weight"][2]),
        keras=Keras(),
    ),
    Old(
        "attention.DANet",
        "DAModule",
        "DualAttention",
        lambda d_model=512, kernel_size=3, H=7, W=7: dict(channels=d_model),
        "d_model=512, kernel_size=3, H=7, W=7",
        was=(
            "ignored its arguments, had neither the scale γ nor the residual, and mixed the "
            "positions by a matrix of fixed size"
        ),
        keras=Keras(
            was=(
                "mixed up channels and positions, had neither the scale γ nor the residual, and "
                "mixed the positions by a matrix of fixed size"
            )
        ),
    ),
    Old(
        "attention.PSA",
        "PSA",
        "PyramidSplit",
        arguments.pyramid_split,
        "channel=512, reduction=8",
        was=(
            "did not register its layers, so that nothing of it was trained or saved, wrote into "
            "its input, and gave each kernel a part of the channels"
        ),
        keras=Keras(was="took the softmax over the channels instead of the kernels"),
    ),
    Old(
        "attention.EMSA",
        "EMSA",
        "EfficientMultiHead",
        arguments.efficient_multi_head,
        "d_model=512, d_k=512, d_v=512, h=8, H=8, W=8, ratio=2, apply_transform=True",
        call="ImageTokens",
        keras=Keras(
            arguments=arguments.efficient_multi_head_keras,
            was="normalised the maps over the batch, and padded its convolution on one side",
        ),
    ),
    Old(
        "attention.ShuffleAttention",
        "ShuffleAttention",
        "ShuffleAttention",
        lambda channel=512, reduction=16, G=8: dict(channels=channel, groups=G),
        "channel=512, G=8",
        keras=Keras(was="cut groups out of rows and columns instead of channels"),
    ),
    Old(
        "attention.MUSEAttention",
        "MUSEAttention",
        "MUSE",
        arguments.muse,
        "d_model=512, d_k=512, d_v=512, h=8",
        call="Queries",
        was="replaced the weights of its kernels by their softmax at every call, in evaluation too",
        keras=Keras(
            was=(
                "made the weights of its kernels anew at every call, and dropped everything in "
                "training (dropout=1; it is 0.1 now)"
            )
        ),
    ),
    Old(
        "attention.SGE",
        "SpatialGroupEnhance",
        "SpatialGroupEnhance",
        lambda groups: dict(groups=groups),
        "groups=8",
        sizes=lambda s: dict(groups=s["weight"][1]),
        keras=Keras(was="cut groups out of rows and columns instead of channels"),
    ),
    Old(
        "attention.ResidualAttention",
        "ResidualAttention",
        "ClassResidual",
        arguments.class_residual,
        "channel=512, num_class=1000, la=0.2",
        sizes=lambda s: dict(channel=s["fc.weight"][1], num_class=s["fc.weight"][0]),
        keras=Keras(arguments=arguments.class_residual_keras),
    ),
    Old(
        "attention.TripletAttention",
        "TripletAttention",
        "Triplet",
        lambda no_spatial=False: dict(spatial=not no_spatial),
        sizes=lambda s: dict(no_spatial="hw.conv.conv.weight" not in s),
    ),
    Old(
        "attention.CoordAttention",
        "CoordAtt",
        "Coordinate",
        arguments.coordinate,
        "inp=96, oup=96, reduction=32",
        sizes=lambda s: dict(
            inp=s["conv1.weight"][1],
            oup=s["conv_h.weight"][0],
            reduction=max(s["conv1.weight"][1] // s["conv1.weight"][0], 1),
        ),
    ),
    Old(
        "attention.SimAM",
        "SimAM",
        "SimAM",
        lambda channels=None, e_lambda=1e-4: dict(eps=e_lambda),
    ),
    Old(
        "attention.CrissCrossAttention",
        "CrissCrossAttention",
        "CrissCross",
        lambda in_dim: dict(channels=in_dim, recurrence=1),
        "in_dim=64",
        sizes=lambda s: dict(in_dim=s["value_conv.weight"][0]),
    ),
    Old(
        "attention.A2Atttention",
        "DoubleAttention",
        "DoubleAttention",
        arguments.double_attention,
        "in_channels=512, c_m=128, c_n=128, reconstruct=True",
        was="took both softmaxes over the images of the batch, so that one image alone had none",
    ),
    Old(
        "attention.AFT",
        "AFT_FULL",
        "AttentionFree",
        lambda d_model, n=49, simple=False: dict(width=d_model, length=None if simple else n),
        "d_model=512, n=49",
        sizes=lambda s: dict(d_model=s["fc_q.weight"][1], n=s["position_biases"][0]),
    ),
    Old(
        "attention.OutlookAttention",
        "OutlookAttention",
        "Outlook",
        arguments.outlook,
        "dim=512",
        call="ChannelsLast",
        sizes=lambda s: dict(dim=s["proj.weight"][0], qkv_bias="v_pj.bias" in s),
    ),
    Old(
        "attention.ViP",
        "WeightedPermuteMLP",
        "WeightedPermute",
        lambda dim, seg_dim=8, qkv_bias=False, proj_drop=0.0: dict(
            channels=dim, height=seg_dim, bias=qkv_bias, gate_dropout=0.1, dropout=proj_drop
        ),
        "dim=512, seg_dim=8",
        call="ChannelsLast",
        sizes=lambda s: dict(dim=s["proj.weight"][0], qkv_bias="mlp_c.bias" in s),
    ),
    Old(
        "attention.PolarizedSelfAttention",
        "SequentialPolarizedSelfAttention",
        "Polarized",
        lambda channel=512: dict(channels=channel, arrangement="sequential", **PAPER),
        "channel=512",
        sizes=lambda s: dict(channel=s["ch_wv.weight"][1]),
    ),
    Old(
        "attention.PolarizedSelfAttention",
        "ParallelPolarizedSelfAttention",
        "Polarized",
        lambda channel=512: dict(channels=channel, **PAPER),
        "channel=512",
        sizes=lambda s: dict(channel=s["ch_wv.weight"][1]),
    ),
    Old(
        "attention.CoTAttention",
        "CoTAttention",
        "ContextualTransformer",
        lambda dim=512, kernel_size=3: dict(channels=dim, kernel_size=kernel_size),
        "dim=512, kernel_size=3",
        was="averaged each position's kernel, took a softmax over the image and saw no neighbours",
    ),
    Old(
        "attention.MobileViTAttention",
        "MobileViTAttention",
        "MobileViT",
        lambda in_channel=3, dim=512, kernel_size=3, patch_size=7: dict(
            channels=in_channel,
            width=dim,
            heads=8,
            layers=3,
            hidden=1024,
            head_width=64,
            patch=patch_size,
            kernel_size=kernel_size,
        ),
        "in_channel=3, dim=512",
        was="had no norms and activations behind its convolutions, and no biases in its queries",
        before=dict(norm=False, qkv_bias=False),
    ),
    Old(
        "attention.ParNetAttention",
        "ParNetAttention",
        "ParNet",
        lambda channel=512: dict(in_channels=channel),
        "channel=512",
        was="had no norm in its shortcut",
        before=dict(norm=False, bias=True),
        sizes=lambda s: dict(channel=s["conv1x1.0.weight"][0]),
    ),
    Old(
        "attention.UFOAttention",
        "UFOAttention",
        "UFO",
        lambda d_model, d_k, d_v, h, dropout=0.1: dict(
            width=d_model, heads=h, head_width=d_k, value_head_width=d_v
        ),
        "d_model=512, d_k=512, d_v=512, h=8",
        call="Queries",
    ),
    Old(
        "attention.ACmixAttention",
        "ACmix",
        "ACmix",
        arguments.acmix,
        "in_planes=256, out_planes=256",
    ),
    Old(
        "attention.MobileViTv2Attention",
        "MobileViTv2Attention",
        "MobileViTv2",
        lambda d_model: dict(width=d_model),
        "d_model=512",
        was="had no ReLU on its values",
        before=dict(relu=False),
    ),
    Old(
        "attention.HaloAttention",
        "HaloAttention",
        "Halo",
        lambda *, dim, block_size, halo_size, dim_head=64, heads=8: dict(
            channels=dim,
            heads=heads,
            block_size=block_size,
            halo_size=halo_size,
            key_channels=dim_head,
            value_channels=dim_head,
            scale_positions=True,
            mask=True,
            project=True,
        ),
        "dim=512, block_size=2, halo_size=1",
        was="masked the image and not what is around it, so that blocks averaged their values",
    ),
    Old(
        "attention.S2Attention",
        "S2Attention",
        "S2",
        lambda channels=512: dict(channels=channels),
        "channels=512",
        was="shifted in place, which smears the border over the image, and ran with 512 channels",
    ),
    Old(
        "attention.Axial_attention",
        "AxialAttention",
        "Axial",
        arguments.axial,
        "dim=128, dim_index=1, heads=8, num_dimensions=2",
        call="DimIndex",
    ),
    Old(
        "attention.Axial_attention",
        "AxialImageTransformer",
        "AxialTransformer",
        arguments.axial_transformer,
        "dim=128, depth=12, reversible=True",
    ),
    Old(
        "conv.CondConv",
        "CondConv",
        "CondConv",
        arguments.cond_conv,
        "in_planes=32, out_planes=64, kernel_size=3, stride=1, padding=1, bias=False",
    ),
    Old(
        "conv.DynamicConv",
        "DynamicConv",
        "DynamicConv",
        arguments.dynamic_conv,
        "in_planes=32, out_planes=64, kernel_size=3, stride=1, padding=1, bias=False",
        call="Annealed",
    ),
    Old(
        "conv.Involution",
        "Involution",
        "Involution",
        arguments.involution,
        "kernel_size=3, in_channel=4, stride=2",
    ),
    *(
        Old(module, name, refused="a whole network, and no mechanism by itself")
        for module, name in (
            ("attention.CoAtNet", "CoAtNet"),
            ("attention.Crossformer", "CrossFormer"),
            ("attention.DAT", "DAT"),
            ("attention.MOATransformer", "MOATransformer"),
            ("attention.gfnet", "GFNet"),
            ("conv.HorNet", "HorNet"),
        )
    ),
    *(
        Old(module, name, refused="a convolution without attention")
        for module, name in (
            ("conv.DepthwiseSeparableConvolution", "DepthwiseSeparableConvolution"),
            ("conv.MBConv", "MBConvBlock"),
        )
    ),
    *(
        Old(f"attention.{module}", name, refused=f"a part of {whole}, which is here as a whole")
        for module, name, whole in (
            ("CBAM", "ChannelAttention", "CBAMBlock"),
            ("CBAM", "SpatialAttention", "CBAMBlock"),
            ("BAM", "ChannelAttention", "BAMBlock"),
            ("BAM", "SpatialAttention", "BAMBlock"),
            ("DANet", "PositionAttentionModule", "DAModule"),
            ("DANet", "ChannelAttentionModule", "DAModule"),
            ("MUSEAttention", "Depth_Pointwise_Conv1d", "MUSEAttention"),
            ("S2Attention", "SplitAttention", "S2Attention"),
        )
    ),
)
