"""The kernels that the benchmarks tune."""

from collections.abc import Callable
from typing import Any


def matmul(size: int = 512) -> Any:
    """C = A B, float32 [size, size]."""
    from tvm import te

    a, b = (te.placeholder((size, size), name=name) for name in "AB")
    k = te.reduce_axis((0, size), name="k")
    c = te.compute((size, size), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    return te.create_prim_func([a, b, c])


def conv2d() -> Any:
    """Convolution 3x3, 64 -> 64 channels at 56 x 56, padding 1."""
    from tvm import te, topi

    data = te.placeholder((1, 64, 56, 56), name="data")
    weight = te.placeholder((64, 64, 3, 3), name="weight")
    return te.create_prim_func([data, weight, topi.nn.conv2d_nchw(data, weight, 1, 1, 1)])


def depthwise() -> Any:
    """Depthwise convolution 3x3, 144 channels at 56 x 56, padding 1."""
    from tvm import te, topi

    data = te.placeholder((1, 144, 56, 56), name="data")
    weight = te.placeholder((144, 1, 3, 3), name="weight")
    out = topi.nn.depthwise_conv2d_nchw(data, weight, 1, 1, 1)
    return te.create_prim_func([data, weight, out])


def batch_matmul() -> Any:
    """12 products of [128, 64] and [64, 128]."""
    from tvm import te

    a = te.placeholder((12, 128, 64), name="A")
    b = te.placeholder((12, 64, 128), name="B")
    k = te.reduce_axis((0, 64), name="k")
    c = te.compute(
        (12, 128, 128), lambda n, i, j: te.sum(a[n, i, k] * b[n, k, j], axis=k), name="C"
    )
    return te.create_prim_func([a, b, c])


def softmax() -> Any:
    """Softmax over the last axis of [12, 128, 128]."""
    from tvm import te, topi

    data = te.placeholder((12, 128, 128), name="data")
    return te.create_prim_func([data, topi.nn.softmax(data, axis=-1)])


TASKS: dict[str, Callable[[], Any]] = {
    "matmul 512": matmul,
    "conv2d 3x3 64 at 56": conv2d,
    "depthwise 3x3 144 at 56": depthwise,
    "batch matmul 12x128x64": batch_matmul,
    "softmax 12x128x128": softmax,
}
