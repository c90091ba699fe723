"""Layers with torch's conventions, built when they are created, and operations on their outputs.

Weights can be copied from torch to a layer that is built. Images are ``b * c``: channels are last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any, TypeAlias

import keras
from keras import layers, ops

Tensor: TypeAlias = Any  # a tensor of the backend, or a symbolic one of Keras
DType: TypeAlias = "str | keras.DTypePolicy"


def dense(
    inputs: int, units: int, *, bias: bool = True, zero: bool = False, dtype: DType
) -> layers.Dense:
    """Return a linear layer over the last axis; with ``zero``, its weights start at zero."""
    initializer = "zeros" if zero else "glorot_uniform"
    layer = layers.Dense(units, use_bias=bias, kernel_initializer=initializer, dtype=dtype)
    layer.build((None, inputs))
    return layer


def conv(
    inputs: int,
    filters: int,
    kernel_size: int | Sequence[int] = 1,
    *,
    dims: int = 2,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    padding: str = "same",
    dtype: DType,
) -> layers.Layer:
    """Return a convolution.

    ``same`` is torch's ``padding=k // 2`` for an odd kernel and a stride of one; for any other
    padding use `pad` and ``valid``.
    """
    layer = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[dims](
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        groups=groups,
        use_bias=bias,
        data_format="channels_last",
        dtype=dtype,
    )
    layer.build((None,) * (dims + 1) + (inputs,))
    return layer


def pad(x: Tensor, amount: int) -> Tensor:
    """Pad the spatial axes with zeros on both sides."""
    return ops.pad(x, [(0, 0), *[(amount, amount)] * (len(x.shape) - 2), (0, 0)])


def convolve(
    x: Tensor, kernel: Tensor, *, stride: int = 1, dilation: int = 1, padding: int = 0
) -> Tensor:
    """Convolve as torch does: the same padding on all sides, any stride with any dilation.

    Keras refuses a stride together with a dilation, because TensorFlow does not support both.
    """
    x = pad(x, padding)
    # The outputs read only every `shared`-th position.
    shared = gcd(stride, dilation)
    x, stride, dilation = subsample(x, shared), stride // shared, dilation // shared
    later = stride if dilation > 1 else 1
    options = {"strides": stride // later, "dilation_rate": dilation}
    y = ops.conv(x, kernel, padding="valid", data_format="channels_last", **options)
    return subsample(y, later)


def subsample(x: Tensor, step: int) -> Tensor:
    """Take every ``step``-th position along the spatial axes."""
    axes = len(x.shape) - 2
    return x if step == 1 else x[(slice(None), *[slice(None, None, step)] * axes)]


def strided_size(size: int | None, stride: int) -> int | None:
    """Return the size of an axis after a convolution with this stride and ``same`` padding."""
    return None if size is None else -(-size // stride)


def max_pool(x: Tensor, side: int = 2) -> Tensor:
    """Return the maximum of each window of this side over height and width, never over time.

    An axis shorter than the side is kept; positions that do not fill a window are left out.
    """
    for axis in range(1, len(x.shape) - 1)[-2:]:
        sizes = ops.shape(x)
        n = sizes[axis]
        fits = 1 - 1 // (n // side + 1)  # one or zero, also if the size is known only at run time
        window = 1 + (side - 1) * fits
        x = x[(*[slice(None)] * axis, slice(n // window * window))]
        x = ops.reshape(x, (*sizes[:axis], n // window, window, *sizes[axis + 1 :]))
        x = ops.max(x, axis + 1)
    return x


def tokens(x: Tensor) -> Tensor:
    """Flatten the spatial axes: ``b * c`` to ``b n c``."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))


class BatchNorm(layers.BatchNormalization):
    """A batch norm over the last axis of an input of any rank; that of Keras has a fixed rank."""

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights."""
        super().build(input_shape)
        self.input_spec = None

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        """Normalize each channel over all positions of all images."""
        y = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training)
        return ops.reshape(y, ops.shape(inputs))


def batch_norm(
    channels: int, *, momentum: float = 0.1, dtype: DType, zero: bool = False
) -> layers.BatchNormalization:
    """Return a batch norm with torch's momentum; with ``zero``, its scales start at zero."""
    initializer = "zeros" if zero else "ones"
    options = {"gamma_initializer": initializer, "dtype": dtype}
    layer = BatchNorm(momentum=1 - momentum, epsilon=1e-5, **options)
    layer.build((None, channels))
    return layer


def layer_norm(channels: int, *, epsilon: float = 1e-5, dtype: DType) -> layers.LayerNormalization:
    """Return a layer norm over the last axis."""
    layer = layers.LayerNormalization(epsilon=epsilon, dtype=dtype)
    layer.build((None, channels))
    return layer


def group_norm(
    channels: int, groups: int, *, epsilon: float = 1e-5, dtype: DType
) -> layers.GroupNormalization:
    """Return a group norm over the last axis of an input of any rank."""
    layer = layers.GroupNormalization(groups, epsilon=epsilon, dtype=dtype)
    layer.build((None, channels))
    layer.input_spec = None
    return layer


def apply_layers(sequence: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """Apply layers one after the other."""
    for layer in sequence:
        x = layer(x)
    return x


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half precision to single precision."""
    double = keras.backend.standardize_dtype(x.dtype) == "float64"
    return ops.cast(x, "float64" if double else "float32")


def softmax(scores: Tensor, axis: int = -1) -> Tensor:
    """Compute a softmax in at least single precision; return the dtype of the scores."""
    return ops.cast(ops.softmax(at_least_float32(scores), axis), scores.dtype)


def l2_norm(x: Tensor, axis: int | Sequence[int], keepdims: bool = False) -> Tensor:
    """Return the root of the sum of squares, with a gradient of zero at zero, not NaN.

    The sum is computed in at least single precision; the result has the dtype of x.
    """
    squares = ops.sum(ops.square(at_least_float32(x)), axis, keepdims=keepdims)
    nonzero = squares > 0
    root = ops.where(nonzero, ops.sqrt(ops.where(nonzero, squares, 1.0)), 0.0)
    return ops.cast(root, x.dtype)


def num_entries(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the product of the sizes of axes, in the dtype of x; a graph may not know it yet."""
    sizes = ops.shape(x)
    return ops.cast(prod(sizes[axis] for axis in axes), x.dtype)


def causal_mask(n: Any, m: Any) -> Tensor:
    """Return True where a key is at or before a query's position, ``n m``, aligned at the end."""
    positions = ops.expand_dims(ops.arange(n, dtype="int32"), 1) + (m - n)
    return positions >= ops.arange(m, dtype="int32")


def and_mask(mask: Tensor | None, allowed: Tensor) -> Tensor:
    """Restrict a mask, boolean or added to the scores, to what a boolean mask allows."""
    if mask is None:
        return allowed
    if keras.backend.standardize_dtype(mask.dtype) == "bool":
        return ops.logical_and(mask, allowed)
    return ops.where(allowed, mask, float("-inf"))


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Return the map ``… n m`` of queries ``… n d`` over keys ``… m d``.

    ``mask`` is True where a query may attend, or a bias added to the scores; a query that may
    attend to nothing gets zeros. ``causal`` masks the keys after a query's position; sequences of
    different lengths are aligned at the end.
    """
    scores = ops.matmul(q * scale, ops.swapaxes(k, -1, -2))
    if causal:
        mask = and_mask(mask, causal_mask(*ops.shape(scores)[-2:]))
    if mask is None:
        return softmax(scores)
    if keras.backend.standardize_dtype(mask.dtype) == "bool":
        allowed = mask
    else:
        allowed = mask > float("-inf")
        scores = scores + ops.where(allowed, ops.cast(mask, scores.dtype), 0.0)
    least = -3e4 if keras.backend.standardize_dtype(scores.dtype) == "float16" else -1e30
    # A finite fill keeps rows that are fully masked, and their gradients, free of NaN.
    a = softmax(ops.where(allowed, scores, least))
    return a * ops.cast(allowed, a.dtype)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split the channels into heads: ``b n c`` to ``b heads n d``."""
    x = ops.reshape(x, (ops.shape(x)[0], -1, heads, x.shape[-1] // heads))
    return ops.swapaxes(x, 1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Concatenate the channels of the heads: ``b heads n d`` to ``b n c``."""
    heads, head_dim = x.shape[1], x.shape[3]
    return ops.reshape(ops.swapaxes(x, 1, 2), (ops.shape(x)[0], -1, heads * head_dim))
