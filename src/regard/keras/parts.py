"""Layers with the conventions of torch, built at once, so that weights can be carried over."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import Any

import keras
from keras import layers, ops


def dense(
    inputs: int, units: int, *, bias: bool = True, zero: bool = False, dtype: Any
) -> layers.Dense:
    """A linear layer over the last axis; ``zero``: it starts at zero."""
    start = "zeros" if zero else "glorot_uniform"
    layer = layers.Dense(units, use_bias=bias, kernel_initializer=start, dtype=dtype)
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
    dtype: Any,
) -> Any:
    """A convolution, channels last.

    ``same`` is torch's ``padding=k // 2`` where the kernel is odd and the stride one; for any other
    padding use `pad` and ``valid``.
    """
    made = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[dims](
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
    made.build((None,) * (dims + 1) + (inputs,))
    return made


def pad(x: Any, amount: int) -> Any:
    """Zeros around the axes of space, channels last."""
    return ops.pad(x, [(0, 0), *[(amount, amount)] * (len(x.shape) - 2), (0, 0)])


def convolve(x: Any, kernel: Any, *, stride: int = 1, dilation: int = 1, padding: int = 0) -> Any:
    """Torch's convolution: padded alike on all sides, at any stride with any dilation.

    Keras has no stride with a dilation, for want of both in TensorFlow.
    """
    x = pad(x, padding)
    shared = gcd(stride, dilation)  # what lies between is read by no position of the result
    x, stride, dilation = every(x, shared), stride // shared, dilation // shared
    later = stride if dilation > 1 else 1
    step = {"strides": stride // later, "dilation_rate": dilation}
    y = ops.conv(x, kernel, padding="valid", data_format="channels_last", **step)
    return every(y, later)


def every(x: Any, step: int) -> Any:
    """Each so many-th position along the axes of space, channels last."""
    axes = len(x.shape) - 2
    return x if step == 1 else x[(slice(None), *[slice(None, None, step)] * axes)]


def strided(size: int | None, step: int) -> int | None:
    """How many positions such a step leaves, where a result was as large as its input."""
    return None if size is None else -(-size // step)


def shrink(x: Any, side: int = 2) -> Any:
    """The maximum of each window of that side, never over time; an axis that is less is left.

    What does not fill a window is left out.
    """
    for axis in range(1, len(x.shape) - 1)[-2:]:
        sizes = ops.shape(x)
        n = sizes[axis]
        fits = 1 - 1 // (n // side + 1)  # one or zero, also where the size is known only later
        each = 1 + (side - 1) * fits
        x = x[(*[slice(None)] * axis, slice(n // each * each))]
        x = ops.reshape(x, (*sizes[:axis], n // each, each, *sizes[axis + 1 :]))
        x = ops.max(x, axis + 1)
    return x


def rows(x: Any) -> Any:
    """The positions as rows: ``b n c``."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))


class BatchNorm(layers.BatchNormalization):
    """A batch norm over the last axis, whatever comes before it: Keras' own has a fixed rank."""

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        super().build(input_shape)
        self.input_spec = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize all positions of all images alike."""
        y = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training)
        return ops.reshape(y, ops.shape(inputs))


def batch_norm(
    channels: int, *, momentum: float = 0.1, dtype: Any, zero: bool = False
) -> layers.BatchNormalization:
    """A batch norm over the last axis; the momentum is torch's, and ``zero`` its first factors."""
    start = "zeros" if zero else "ones"
    layer = BatchNorm(momentum=1 - momentum, epsilon=1e-5, gamma_initializer=start, dtype=dtype)
    layer.build((None, channels))
    return layer


def layer_norm(channels: int, *, epsilon: float = 1e-5, dtype: Any) -> layers.LayerNormalization:
    """A layer norm over the last axis."""
    layer = layers.LayerNormalization(epsilon=epsilon, dtype=dtype)
    layer.build((None, channels))
    return layer


def group_norm(
    channels: int, groups: int, *, epsilon: float = 1e-5, dtype: Any
) -> layers.GroupNormalization:
    """A group norm over the last axis, whatever comes before it."""
    layer = layers.GroupNormalization(groups, epsilon=epsilon, dtype=dtype)
    layer.build((None, channels))
    layer.input_spec = None
    return layer


def through(sequence: Sequence[Any], x: Any) -> Any:
    """Run layers one after the other."""
    for layer in sequence:
        x = layer(x)
    return x


def wide(x: Any) -> Any:
    """The same numbers in single precision at least."""
    double = keras.backend.standardize_dtype(x.dtype) == "float64"
    return ops.cast(x, "float64" if double else "float32")


def softmax(scores: Any, axis: int = -1) -> Any:
    """Softmax in single precision at least, given back in the precision of the scores."""
    return ops.cast(ops.softmax(wide(scores), axis), scores.dtype)


def length(x: Any, axis: int | Sequence[int], keepdims: bool = False) -> Any:
    """The root of the sum of squares, whose gradient at zero is zero, where that of sqrt is none.

    Summed in single precision at least, given back in the precision of x.
    """
    squares = ops.sum(ops.square(wide(x)), axis, keepdims=keepdims)
    some = squares > 0
    return ops.cast(ops.where(some, ops.sqrt(ops.where(some, squares, 1.0)), 0.0), x.dtype)


def count(x: Any, axes: Sequence[int]) -> Any:
    """How many entries there are along axes, as x has its numbers; a graph may learn it late."""
    sizes = ops.shape(x)
    return ops.cast(prod(sizes[axis] for axis in axes), x.dtype)


def past(n: Any, m: Any) -> Any:
    """Which of m keys stand at the place of each of n queries or before it, ``n m``."""
    places = ops.expand_dims(ops.arange(n, dtype="int32"), 1) + (m - n)
    return places >= ops.arange(m, dtype="int32")


def narrowed(mask: Any, may: Any) -> Any:
    """Close a mask, boolean or added to the scores, where another one is closed."""
    if mask is None:
        return may
    if keras.backend.standardize_dtype(mask.dtype) == "bool":
        return ops.logical_and(mask, may)
    return ops.where(may, mask, float("-inf"))


def weigh(
    q: Any,
    k: Any,
    *,
    scale: float = 1.0,
    mask: Any = None,
    causal: bool = False,
) -> Any:
    """The map ``… n m`` of queries ``… n d`` over keys ``… m d``.

    ``mask`` is True where a query may attend, or a bias that is added to the scores; a query that
    may attend to nothing gets zeros. ``causal`` closes the keys behind a query's own place; the
    last query has that of the last key.
    """
    scores = ops.matmul(q * scale, ops.swapaxes(k, -1, -2))
    if causal:
        mask = narrowed(mask, past(*ops.shape(scores)[-2:]))
    if mask is None:
        return softmax(scores)
    if keras.backend.standardize_dtype(mask.dtype) == "bool":
        may = mask
    else:
        may = mask > float("-inf")
        scores = scores + ops.where(may, ops.cast(mask, scores.dtype), 0.0)
    open_rows = ops.any(may, -1, keepdims=True)
    least = -3e4 if keras.backend.standardize_dtype(scores.dtype) == "float16" else -1e30
    # A finite fill keeps the rows that are wholly closed, and their gradients, free of NaN.
    a = softmax(ops.where(may, scores, least))
    return a * ops.cast(ops.logical_and(may, open_rows), a.dtype)


def divide(x: Any, heads: int) -> Any:
    """Give each head its share of the channels: ``b n c`` to ``b heads n d``."""
    x = ops.reshape(x, (ops.shape(x)[0], -1, heads, x.shape[-1] // heads))
    return ops.swapaxes(x, 1, 2)


def join(x: Any) -> Any:
    """Put the channels of the heads together again: ``b heads n d`` to ``b n c``."""
    heads, width = x.shape[1], x.shape[3]
    return ops.reshape(ops.swapaxes(x, 1, 2), (ops.shape(x)[0], -1, heads * width))
