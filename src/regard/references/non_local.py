"""Non-local blocks in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.check import one_of
from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

# In these classes, a layer that a pool or a norm follows is the first of an nn.Sequential.
LAYERS = {
    "g.0": "g",
    "phi.0": "phi",
    "concat_project.0": "compare",
    "W": "out",
    "W.0": "out",
    "W.1": "norm",
}
MODES = {
    "embedded_gaussian": "embedded",
    "gaussian": "gaussian",
    "dot_product": "dot",
    "concatenation": "concat",
}


def _authors(
    shapes: Shapes,
    dim: int,
    dim_inner: int,
    use_softmax: bool = True,
    use_maxpool: bool = True,
    use_scale: bool = True,
    use_bn: bool = True,
) -> Options:
    return dict(
        channels=dim,
        hidden_dim=dim_inner,
        form="embedded" if use_softmax else "dot",
        dims=len(shapes["g.weight"]) - 2,
        subsample="input" if use_maxpool else None,
        scaled=use_scale,
        norm=use_bn,
    )


def _alexhex7(source: str, form: str) -> Reference:
    def arguments(
        shapes: Shapes,
        in_channels: int,
        inter_channels: int | None = None,
        dimension: int | None = None,
        sub_sample: bool = True,
        bn_layer: bool = True,
    ) -> Options:
        return dict(
            channels=in_channels,
            hidden_dim=inter_channels,
            form=form,
            dims=len(shapes["g.0.weight" if sub_sample else "g.weight"]) - 2,
            subsample="projections" if sub_sample else None,
            scaled=False,
            norm=bn_layer,
        )

    return Reference(source, arguments, LAYERS, map="b n m")


def _mmcv(source: str, dims: int) -> Reference:
    def arguments(
        shapes: Shapes,
        in_channels: int,
        reduction: int = 2,
        use_scale: bool = True,
        norm_cfg: object = None,
        mode: str = "embedded_gaussian",
        sub_sample: bool = False,
    ) -> Options:
        one_of(tuple(MODES), mode=mode)
        axes = len(shapes["conv_out.conv.weight"]) - 2
        if axes != dims:
            raise ValueError(f"its kernels have {axes} axes of space, not {dims}")
        return dict(
            channels=in_channels,
            hidden_dim=max(in_channels // reduction, 1),
            form=MODES[mode],
            dims=dims,
            subsample="projections" if sub_sample else None,
            scaled=use_scale and mode == "embedded_gaussian",
            norm="conv_out.bn.weight" in shapes,
        )

    names = {
        "g.conv": "g",
        "g.0.conv": "g",
        "theta.conv": "theta",
        "phi.conv": "phi",
        "phi.0.conv": "phi",
        "concat_project.conv": "compare",
        "conv_out.conv": "out",
        "conv_out.bn": "norm",
    }
    ignored = ("conv_cfg", "zeros_init")
    return Reference(source, arguments, names, ignored=ignored, adapt=_with_bias, map="b n m")


def _with_bias(state: dict[str, Tensor], module: nn.Module) -> State:
    """Add a zero bias, which a convolution before a norm lacks in mmcv."""
    weight = state["conv_out.conv.weight"]
    state.setdefault("conv_out.conv.bias", weight.new_zeros(len(weight)))
    return state


REFERENCES = (
    Reference(
        "facebookresearch/video-nonlocal-net",
        _authors,
        {"bn": "norm"},
        map="b n m",
    ),
    # The weights do not determine the form, but each form has its own file.
    _alexhex7("AlexHex7/Non-local_pytorch:non_local_embedded_gaussian.py", "embedded"),
    _alexhex7("AlexHex7/Non-local_pytorch:non_local_gaussian.py", "gaussian"),
    _alexhex7("AlexHex7/Non-local_pytorch:non_local_dot_product.py", "dot"),
    _alexhex7("AlexHex7/Non-local_pytorch:non_local_concatenation.py", "concat"),
    _mmcv("mmcv:NonLocal1d", 1),
    _mmcv("mmcv:NonLocal2d", 2),
    _mmcv("mmcv:NonLocal3d", 3),
)
