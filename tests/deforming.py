"""The definition of `deform_conv` in plain loops, the calls on which it is tested, and how each library is called."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import floor, prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import torch

import arrayconv as ac
from arrayconv.testing.oracle import each, fit

if TYPE_CHECKING:
    from conftest import Library

NumPyArray = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(7)


def reference(
    x: NumPyArray,
    offset: NumPyArray,
    kernel: NumPyArray,
    bias: NumPyArray | None = None,
    mask: NumPyArray | None = None,
    groups: int = 1,
    **options: Any,
) -> NumPyArray:
    """The definition, one sample after the other, channels first and one batch axis."""
    window, ndim = kernel.shape[2:], kernel.ndim - 2
    stride, dilation = each(options.get("stride", 1), ndim), each(options.get("dilation", 1), ndim)
    fits = fit(options.get("padding", "valid"), x.shape[2:], window, stride, dilation)
    taps, outputs = prod(window), len(kernel) // groups
    fields = offset.shape[1] // (taps * ndim)
    y = np.zeros((len(x), len(kernel), *(axis.outputs for axis in fits)), np.result_type(x, kernel))
    for n, j in product(range(len(x)), np.ndindex(y.shape[2:])):
        for c, (t, tap) in product(range(x.shape[1]), enumerate(np.ndindex(*window))):
            q, g = c * fields // x.shape[1], c * groups // x.shape[1]
            at = [
                j[a] * stride[a] + tap[a] * dilation[a] - fits[a].padding[0] + offset[n, (q * taps + t) * ndim + a, *j]
                for a in range(ndim)
            ]
            value = sample(x[n, c], at) * (1.0 if mask is None else mask[n, q * taps + t, *j])
            own = slice(g * outputs, (g + 1) * outputs)
            y[n, own, *j] += value * kernel[own, c % kernel.shape[1], *tap]
    return y if bias is None else y + bias.reshape(-1, *(1,) * ndim)


def sample(image: NumPyArray, at: list[float]) -> Any:
    """Multilinear, zero outside; a corner of weight zero does not count."""
    total = image.dtype.type(0)
    for bits in product((0, 1), repeat=image.ndim):
        corner = tuple(floor(p) + bit for p, bit in zip(at, bits, strict=True))
        weight = prod(p - floor(p) if bit else 1 - (p - floor(p)) for p, bit in zip(at, bits, strict=True))
        if weight and all(0 <= i < n for i, n in zip(corner, image.shape, strict=True)):
            total += weight * image[corner]
    return total


class Case(NamedTuple):
    """Sizes of a call; channels are 4, of two outputs a group."""

    sizes: tuple[int, ...]
    window: tuple[int, ...]
    fields: int = 1
    groups: int = 1
    with_mask: bool = False
    options: Mapping[str, Any] = MappingProxyType({})
    channels: int = 4


CASES = {
    "1d": Case((9,), (3,), with_mask=True, options={"stride": 2, "padding": ((2, 1),)}),
    "1d-groups": Case((7,), (2,), fields=2, groups=4, options={"dilation": 3, "padding": "same"}),
    "2d": Case((5, 6), (3, 2), with_mask=True, options={"padding": (1, 2), "stride": (2, 1), "dilation": (1, 2)}),
    "2d-groups": Case((5, 4), (2, 2), fields=4, groups=2, with_mask=True),
    "2d-across": Case((4, 4), (2, 1), fields=2, groups=3, channels=12, options={"padding": "full"}),
    "2d-fields": Case((4, 5), (2, 3), fields=2, options={"padding": ((-1, 2), (3, -1))}),
    "2d-depthwise": Case((4, 5), (2, 2), groups=4, with_mask=True, options={"padding": "same_lower"}),
    "3d": Case((4, 3, 5), (2, 1, 2), fields=2, with_mask=True, options={"stride": (1, 2, 2), "padding": "causal"}),
}


def arrays(case: Case, batch: int = 2, dtype: str = "float64", reach: float = 1.5) -> dict[str, Any]:
    """Random arrays of a case, channels first."""
    taps, ndim = prod(case.window), len(case.window)
    options: dict[str, Any] = {"stride": 1, "dilation": 1, "padding": "valid", **case.options}
    out = [
        axis.outputs
        for axis in fit(options["padding"], case.sizes, case.window, options["stride"], options["dilation"])
    ]
    outputs = 2 * case.groups
    shapes = {
        "x": (batch, case.channels, *case.sizes),
        "offset": (batch, case.fields * taps * ndim, *out),
        "kernel": (outputs, case.channels // case.groups, *case.window),
        "bias": (outputs,),
    }
    if case.with_mask:
        shapes["mask"] = (batch, case.fields * taps, *out)
    made = {name: RANDOM.standard_normal(shape) for name, shape in shapes.items()}
    made["offset"] *= reach
    # No position near an integer, where the derivative jumps.
    made["offset"] = np.floor(made["offset"]) + np.clip(made["offset"] % 1, 0.05, 0.95)
    return {name: array.astype(dtype) for name, array in made.items()}


def own(library: Library, array: NumPyArray, lead: int = 1, dtype: str | None = None) -> Any:
    """A library's array; Dask's batch stays in chunks."""
    made = library.asarray(array, dtype)
    return made.rechunk(dict.fromkeys(range(lead, array.ndim), -1)) if library.name == "dask" else made


def run(library: Library, made: dict[str, Any], **options: Any) -> Any:
    """`deform_conv`, compiled where each of its many small steps would be compiled alone."""
    if library.name != "jax":
        return ac.deform_conv(**made, **options)
    return jax.jit(lambda arrays: ac.deform_conv(**arrays, **options))(made)


def pull(library: Library, made: dict[str, Any], dy: Any, **options: Any) -> Any:
    """The result and all cotangents, compiled as in `run`."""

    def both(made: dict[str, Any], dy: Any) -> Any:
        y, pullback = ac.vjp(ac.deform_conv, **made, **options)
        return y, pullback(dy)

    return (jax.jit(both) if library.name == "jax" else both)(made, dy)


def call(library: Library, given: dict[str, NumPyArray], dtype: str | None = None, **options: Any) -> Any:
    return run(library, {name: own(library, array, dtype=dtype) for name, array in given.items()}, **options)


def torch_arrays(given: dict[str, NumPyArray]) -> dict[str, Any]:
    return {name: torch.tensor(array, requires_grad=True) for name, array in given.items()}


def autograd(given: dict[str, Any], dy: Any, **options: Any) -> dict[str, NumPyArray]:
    """Cotangents of all arrays by PyTorch's own differentiation."""
    made = torch_arrays(given)
    y = ac.deform_conv(**made, **options)
    grads = torch.autograd.grad(y, list(made.values()), torch.tensor(dy))
    return {name: np.asarray(grad) for name, grad in zip(made, grads, strict=True)}
