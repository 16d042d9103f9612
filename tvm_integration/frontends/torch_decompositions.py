"""What torch's operators are made of, where TVM's importer lacks them or leaves arguments out.

A decomposition that gives `NotImplemented` leaves the operator to the importer.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["decompositions"]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Torch's own decompositions, and those of operators that TVM's importer lacks or mistakes."""
    import torch
    from torch._decomp import get_decompositions

    aten = torch.ops.aten
    table: dict[Any, Callable[..., Any]] = dict(torch.export.default_decompositions())
    table |= get_decompositions([aten.grid_sampler_2d, aten.adaptive_max_pool2d, aten.addmv])
    table[aten.var_mean.correction] = _var_mean
    table[aten._cdist_forward.default] = _cdist
    table[aten.unfold.default] = _windows
    table[aten.im2col.default] = _im2col
    table[aten.elu.default] = _elu
    table[aten.avg_pool2d.default] = _average_pool(torch.nn.functional.avg_pool2d)
    table[aten.avg_pool3d.default] = _average_pool(torch.nn.functional.avg_pool3d)
    table[aten.upsample_nearest2d.vec] = _nearest
    table[aten.upsample_bilinear2d.vec] = _bilinear
    table[aten._upsample_bilinear2d_aa.vec] = _antialiased(1, _triangle)
    table[aten._upsample_bicubic2d_aa.vec] = _antialiased(2, _cubic)
    return table


def _windows(x: Any, dim: int, size: int, step: int, dilation: int = 1) -> Any:
    """Windows along a dimension, by index; torch views memory, which TVM does not."""
    import torch

    dim %= x.dim()
    count = (x.shape[dim] - dilation * (size - 1) - 1) // step + 1
    starts = torch.arange(count, device=x.device).unsqueeze(1) * step
    places = starts + torch.arange(size, device=x.device) * dilation
    found = torch.index_select(x, dim, places.reshape(-1))
    found = found.reshape([*x.shape[:dim], count, size, *x.shape[dim + 1 :]])
    return found.movedim(dim + 1, -1)


def _im2col(
    x: Any,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Any:
    """Patches of an image as columns."""
    import torch

    padded = torch.nn.functional.pad(x, [padding[1], padding[1], padding[0], padding[0]])
    for axis in (0, 1):
        padded = _windows(padded, 2 + axis, kernel[axis], stride[axis], dilation[axis])
    moved = padded.permute(0, 1, 4, 5, 2, 3)
    return moved.reshape(x.shape[0], x.shape[1] * kernel[0] * kernel[1], -1)


def _cdist(x: Any, y: Any, p: float, _compute_mode: int | None) -> Any:
    """Distances between all rows of two matrices, by differences as eager torch takes them."""
    import torch

    difference = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0:
        return (difference != 0).to(x.dtype).sum(-1)
    if p == float("inf"):
        return torch.amax(difference, -1)
    if p == 1:
        return difference.sum(-1)
    if p == 2:
        return (difference * difference).sum(-1).sqrt()
    return difference.pow(p).sum(-1).pow(1 / p)


def _elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """The importer leaves both scales out, and SELU is an ELU that is scaled."""
    import torch

    if scale == 1 and input_scale == 1:
        return NotImplemented
    below = (torch.exp(x * input_scale) - 1) * (alpha * scale)
    return torch.where(x > 0, x * scale, below)


def _var_mean(
    x: Any, dim: list[int] | None = None, *, correction: float = 1, keepdim: bool = False
) -> Any:
    import torch

    mean = torch.mean(x, dim, keepdim=keepdim) if dim else torch.mean(x)
    return torch.var(x, dim, correction=correction, keepdim=keepdim), mean


def _average_pool(pool: Callable[..., Any]) -> Callable[..., Any]:
    """Average pooling; the importer leaves a divisor of the user's out."""

    def decompose(
        x: Any,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        _count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        import torch

        if divisor_override is None:
            return NotImplemented
        axes = len(kernel)
        steps = list(stride) or list(kernel)
        before = list(padding) * (axes // len(padding))
        sizes = pool(x, kernel, steps, before, ceil_mode).shape[-axes:]
        pads: list[int] = []
        for axis in reversed(range(axes)):
            wanted = (sizes[axis] - 1) * steps[axis] + kernel[axis]
            after = wanted - x.shape[axis - axes] - before[axis]
            pads += [before[axis], max(after, 0)]
        padded = torch.nn.functional.pad(x, pads)
        return pool(padded, kernel, steps) * (math.prod(kernel) / divisor_override)

    return decompose


def _ratios(x: Any, size: Sequence[int], scales: Sequence[float] | None) -> list[float]:
    """Pixels of the input an output pixel, along each axis of an image, as torch takes them."""
    if scales is not None:
        return [1 / scale for scale in scales]
    return [old / new for old, new in zip(x.shape[2:], size, strict=True)]


def _resized(x: Any, size: Sequence[int] | None, scales: Sequence[float] | None) -> list[int]:
    """The size of a resized image."""
    if size is not None:
        return list(size)
    assert scales is not None
    return [int(old * scale) for old, scale in zip(x.shape[2:], scales, strict=True)]


def _is_exact(x: Any, new: Sequence[int], scales: Sequence[float] | None) -> bool:
    """Whether a resize goes by the sizes, as the importer takes all of them."""
    return scales is None or all(
        old * scale == size for old, size, scale in zip(x.shape[2:], new, scales, strict=True)
    )


def _nearest(x: Any, size: Sequence[int] | None, scales: Sequence[float] | None) -> Any:
    """The importer's pixels are those nearest to centres, torch's are those before."""
    import torch
    from torch._decomp import decomposition_table

    new = _resized(x, size, scales)
    if _is_exact(x, new, scales) and not any(
        after % before for before, after in zip(x.shape[2:], new, strict=True)
    ):
        return NotImplemented
    return decomposition_table[torch.ops.aten.upsample_nearest2d.vec](x, size, scales)


def _bilinear(
    x: Any, size: Sequence[int] | None, align_corners: bool, scales: Sequence[float] | None
) -> Any:
    """The importer goes by the sizes even where torch goes by the scale."""
    import torch
    from torch._decomp import decomposition_table

    if align_corners or _is_exact(x, _resized(x, size, scales), scales):
        return NotImplemented
    known = decomposition_table[torch.ops.aten.upsample_bilinear2d.vec]
    return known(x, size, align_corners, scales)


def _antialiased(reach: int, weight: Callable[[Any], Any]) -> Callable[..., Any]:
    """A resize that averages all pixels an output pixel covers: a product with weights an axis."""

    def decompose(
        x: Any, size: Sequence[int] | None, align_corners: bool, scales: Sequence[float] | None
    ) -> Any:
        import torch

        new = _resized(x, size, scales)
        if list(x.shape[2:]) == new:
            return x.clone()
        ratios = _ratios(x, new, scales)
        for axis, (count, ratio) in enumerate(zip(new, ratios, strict=True)):
            old = x.shape[2 + axis]
            if align_corners:
                ratio = (old - 1) / (count - 1) if count > 1 else 0.0
            centre = (torch.arange(count, device=x.device, dtype=torch.float32) + 0.5) * ratio
            place = torch.arange(old, device=x.device, dtype=torch.float32) + 0.5
            distance = (place.unsqueeze(0) - centre.unsqueeze(1)).abs() / max(ratio, 1.0)
            weights = torch.where(distance < reach, weight(distance), 0.0)
            weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
            x = torch.matmul(weights, x) if axis == 0 else torch.matmul(x, weights.t())
        return x

    return decompose


def _triangle(distance: Any) -> Any:
    return 1 - distance


def _cubic(distance: Any) -> Any:
    """Keys' cubic with the coefficient -0.5, which torch takes with antialiasing."""
    import torch

    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * -0.5 + 2
    return torch.where(distance < 1, near, far)
