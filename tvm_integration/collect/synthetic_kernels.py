"""Kernels of no network: the kinds that networks have, with shapes drawn around theirs.

Distinct tasks teach a cost model more than further programs of the same tasks, and networks share
most of theirs. Each kernel starts from one that a published network has; its sizes are drawn from
half to twice that, on a logarithmic scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_integration.collect.source import DTYPES, Drawn
from tvm_integration.compat import IRModule, estimate_tir_flops, normalize_prim_func, tvm

te, topi = tvm.te, tvm.topi

MAX_FLOP = 1e9
"""A program without a schedule does some 10^9 operations a second, and is measured, too."""
_BATCHES = (1, 1, 1, 1, 1, 2, 4, 8)
_DRAWS_PER_KERNEL = 50

# Channels in, channels out, image, window, stride.
_CONVOLUTIONS = (
    (3, 64, 224, 7, 2),
    (3, 32, 224, 3, 2),
    (64, 64, 56, 3, 1),
    (64, 64, 56, 1, 1),
    (64, 256, 56, 1, 1),
    (128, 128, 28, 3, 1),
    (256, 512, 28, 1, 2),
    (256, 256, 14, 3, 1),
    (512, 512, 7, 3, 1),
    (512, 2048, 7, 1, 1),
    (24, 144, 56, 1, 1),
    (320, 1280, 7, 1, 1),
    (3, 96, 224, 4, 4),
    (3, 192, 224, 16, 16),
)
# Channels, image, window, stride.
_DEPTHWISE = (
    (32, 112, 3, 1),
    (96, 112, 3, 2),
    (144, 56, 5, 2),
    (240, 28, 3, 1),
    (480, 14, 5, 1),
    (960, 7, 3, 1),
    (96, 56, 7, 1),
    (384, 14, 7, 1),
)
# Rows, features in, features out.
_DENSE = (
    (1, 512, 1000),
    (1, 2048, 1000),
    (128, 128, 512),
    (128, 768, 768),
    (128, 768, 3072),
    (128, 3072, 768),
    (197, 192, 576),
    (197, 768, 192),
    (3136, 96, 384),
)
# Heads, rows, columns, length of the sum.
_BATCH_MATMUL = ((12, 128, 128, 64), (12, 128, 64, 128), (3, 197, 197, 64), (64, 49, 49, 32))
# Rows, width.
_ROWS = ((1536, 128), (591, 197), (197, 192), (128, 768), (3136, 96), (512, 256))
# Channels, image.
_IMAGES = ((64, 112), (64, 56), (256, 56), (512, 28), (1280, 7), (144, 56))


@dataclass(frozen=True)
class SyntheticKernel:
    """A kernel and a name for it."""

    name: str
    mod: IRModule


def synthetic_kernels(drawn: Drawn) -> list[SyntheticKernel]:
    """Draw kernels.

    Parameters
    ----------
    drawn : Drawn
        How many, of which element type, from which seed.

    Returns
    -------
    list of SyntheticKernel
        Of distinct names, which say kind and shapes.
    """
    rng = np.random.default_rng([drawn.seed, DTYPES.index(drawn.dtype)])
    kinds = [kind for kind in _KINDS if drawn.dtype in kind.dtypes]
    weights = np.array([kind.weight for kind in kinds])
    found: dict[str, SyntheticKernel] = {}
    for _ in range(_DRAWS_PER_KERNEL * drawn.count):
        if len(found) == drawn.count:
            break
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        tensors, sizes = kind.make(_Sizes(rng), drawn.dtype)
        name = f"{kind.name}_{'x'.join(map(str, sizes))}_{drawn.dtype}"
        if name in found:
            continue
        mod = normalize_prim_func(te.create_prim_func(list(tensors)))
        if float(estimate_tir_flops(mod)) <= MAX_FLOP:
            found[name] = SyntheticKernel(name, mod)
    return list(found.values())


class _Sizes:
    """Draws sizes around given ones."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, options: Sequence[Any]) -> Any:
        """One of some."""
        return options[int(self._rng.integers(len(options)))]

    def near(self, size: int) -> int:
        """Half to twice a size: above 16 a multiple of 8, as most networks have it, or any."""
        drawn = size * 2.0 ** self._rng.uniform(-1, 1)
        if size <= 4:
            return size
        if drawn >= 16 and self._rng.random() < 0.8:
            return int(max(8, round(drawn / 8) * 8))
        return int(max(1, round(drawn)))


_Made = tuple[Sequence[Any], Sequence[int]]


def _conv(sizes: _Sizes, dtype: str) -> _Made:
    channels, filters, image, window, stride = sizes.choose(_CONVOLUTIONS)
    batch = sizes.choose(_BATCHES)
    channels, filters, image = map(sizes.near, (channels, filters, image))
    image = max(image, window)
    x = te.placeholder((batch, channels, image, image), dtype, name="x")
    w = te.placeholder((filters, channels, window, window), dtype, name="w")
    padding = 0 if stride >= window else window // 2
    conv = topi.nn.conv2d(x, w, stride, padding, 1, "NCHW", "OIHW", _sum_type(dtype))
    bias = te.placeholder((1, filters, 1, 1), str(conv.dtype), name="bias")
    out, more = _epilogue(sizes, topi.add(conv, bias))
    return (x, w, bias, *more, out), (batch, channels, filters, image, window, stride)


def _depthwise(sizes: _Sizes, dtype: str) -> _Made:
    channels, image, window, stride = sizes.choose(_DEPTHWISE)
    batch = sizes.choose(_BATCHES)
    channels, image = map(sizes.near, (channels, image))
    image = max(image, window)
    x = te.placeholder((batch, channels, image, image), dtype, name="x")
    w = te.placeholder((channels, 1, window, window), dtype, name="w")
    conv = topi.nn.group_conv2d_nchw(x, w, stride, window // 2, 1, channels, _sum_type(dtype))
    bias = te.placeholder((1, channels, 1, 1), str(conv.dtype), name="bias")
    out, more = _epilogue(sizes, topi.add(conv, bias))
    return (x, w, bias, *more, out), (batch, channels, image, window, stride)


def _dense(sizes: _Sizes, dtype: str) -> _Made:
    rows, width, outputs = map(sizes.near, sizes.choose(_DENSE))
    x = te.placeholder((rows, width), dtype, name="x")
    w = te.placeholder((width, outputs), dtype, name="w")
    product = topi.nn.matmul(x, w, out_dtype=_sum_type(dtype))
    bias = te.placeholder((outputs,), str(product.dtype), name="bias")
    out, more = _epilogue(sizes, topi.add(product, bias))
    return (x, w, bias, *more, out), (rows, width, outputs)


def _batch_matmul(sizes: _Sizes, dtype: str) -> _Made:
    heads, rows, columns, length = map(sizes.near, sizes.choose(_BATCH_MATMUL))
    x = te.placeholder((heads, rows, length), dtype, name="x")
    y = te.placeholder((heads, columns, length), dtype, name="y")
    product = topi.nn.batch_matmul(x, y, out_dtype=_sum_type(dtype))
    return (x, y, product), (heads, rows, columns, length)


def _softmax(sizes: _Sizes, dtype: str) -> _Made:
    rows, width = map(sizes.near, sizes.choose(_ROWS))
    x = te.placeholder((rows, width), dtype, name="x")
    return (x, topi.nn.softmax(x, axis=-1)), (rows, width)


def _layer_norm(sizes: _Sizes, dtype: str) -> _Made:
    rows, width = map(sizes.near, sizes.choose(_ROWS))
    x = te.placeholder((rows, width), dtype, name="x")
    gamma = te.placeholder((width,), dtype, name="gamma")
    beta = te.placeholder((width,), dtype, name="beta")
    return (x, gamma, beta, topi.nn.layer_norm(x, gamma, beta, [1], 1e-5)), (rows, width)


def _pool(sizes: _Sizes, dtype: str) -> _Made:
    batch = sizes.choose(_BATCHES)
    channels, image = map(sizes.near, sizes.choose(_IMAGES))
    kind, window, stride = sizes.choose((("max", 3, 2), ("avg", 2, 2), ("max", 2, 2)))
    image = max(image, window)
    x = te.placeholder((batch, channels, image, image), dtype, name="x")
    padding = (window - stride) // 2 + (window - stride) % 2
    pooled = topi.nn.pool2d(
        x, (window, window), (stride, stride), (1, 1), (padding,) * 4, kind, layout="NCHW"
    )
    return (x, pooled), (batch, channels, image, window, stride)


def _mean(sizes: _Sizes, dtype: str) -> _Made:
    batch = sizes.choose(_BATCHES)
    channels, image = map(sizes.near, sizes.choose(_IMAGES))
    x = te.placeholder((batch, channels, image, image), dtype, name="x")
    total = topi.sum(x, axis=(2, 3), keepdims=True)
    return (x, topi.multiply(total, tvm.tirx.const(1.0 / image**2, dtype))), (
        batch,
        channels,
        image,
    )


def _elementwise(sizes: _Sizes, dtype: str) -> _Made:
    batch = sizes.choose(_BATCHES)
    channels, image = map(sizes.near, sizes.choose(_IMAGES))
    x = te.placeholder((batch, channels, image, image), dtype, name="x")
    shape = sizes.choose(((batch, channels, image, image), (batch, channels, 1, 1)))
    y = te.placeholder(shape, dtype, name="y")
    joined = sizes.choose((topi.add, topi.multiply))(x, y)
    out, more = _epilogue(sizes, joined)
    return (x, y, *more, out), (batch, channels, image, int(np.prod(shape)), len(more))


def _transpose(sizes: _Sizes, dtype: str) -> _Made:
    heads, rows, _, length = map(sizes.near, sizes.choose(_BATCH_MATMUL))
    x = te.placeholder((1, rows, heads, length), dtype, name="x")
    return (x, topi.transpose(x, (0, 2, 1, 3))), (heads, rows, length)


def _epilogue(sizes: _Sizes, x: Any) -> tuple[Any, tuple[Any, ...]]:
    """What networks fuse behind a layer, and the further arguments that it needs."""
    dtype = str(x.dtype)
    is_float = "float" in dtype
    kind = sizes.choose(("none", "relu", "clip", "residual", *(("silu", "gelu") * is_float)))
    if kind == "relu":
        return topi.nn.relu(x), ()
    if kind == "clip":
        return topi.clip(x, 0, 6), ()
    if kind == "residual":
        other = te.placeholder(x.shape, dtype, name="other")
        return topi.nn.relu(topi.add(x, other)), (other,)
    if kind == "silu":
        return topi.multiply(x, topi.sigmoid(x)), ()
    if kind == "gelu":
        inner = topi.multiply(x, tvm.tirx.const(1.702, dtype))
        return topi.multiply(x, topi.sigmoid(inner)), ()
    return x, ()


def _sum_type(dtype: str) -> str:
    return "int32" if dtype == "int8" else dtype


@dataclass(frozen=True)
class _Kind:
    """A kind of kernel: how often it is drawn, and what makes one."""

    name: str
    weight: float
    make: Callable[[_Sizes, str], _Made]
    dtypes: Sequence[str] = DTYPES


_FLOATS = ("float32", "float16")
_KINDS: Sequence[_Kind] = (
    _Kind("conv2d", 0.30, _conv),
    _Kind("depthwise_conv2d", 0.10, _depthwise),
    _Kind("dense", 0.18, _dense),
    _Kind("batch_matmul", 0.12, _batch_matmul),
    _Kind("softmax", 0.06, _softmax, _FLOATS),
    _Kind("layer_norm", 0.06, _layer_norm, _FLOATS),
    _Kind("pool2d", 0.04, _pool),
    _Kind("mean", 0.03, _mean, _FLOATS),
    _Kind("elementwise", 0.07, _elementwise),
    _Kind("transpose", 0.04, _transpose),
)
