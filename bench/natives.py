"""The same work as each library's own user would write it, without arrayconv.

`KINDS` has one row a kind of work. A builder takes a `Workload` and gives functions of its arrays, by name; where
there is more than one, the fastest is "native". NumPy has no convolution with channels: its dense layers are measured
against PyTorch on the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch
from scipy import ndimage, signal
from torch.nn import functional

from bench.workloads import Workload

Array = Any
Call = Callable[..., Any]
Builder = Callable[[Workload], dict[str, Call]]

#: Direct loops in two and three dimensions take seconds beyond this many multiply-adds, and FFT milliseconds.
MOST_DIRECT = 3e8

CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def each(value: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    return (value,) * ndim if isinstance(value, int) else value


# Filters: x (..., *sizes), kernel (*window), valid


def torch_filter(workload: Workload) -> dict[str, Call]:
    ndim = len(workload.shapes[1])
    convolution = CONVOLUTIONS[ndim]

    def call(x: Array, kernel: Array) -> Array:
        y = convolution(x.reshape(-1, 1, *x.shape[x.ndim - ndim :]), kernel[None, None])
        return y.reshape(*x.shape[: x.ndim - ndim], *y.shape[2:])

    return {f"torch.conv{ndim}d": call}


def jax_filter(workload: Workload) -> dict[str, Call]:
    from jax import lax

    ndim = len(workload.shapes[1])

    def call(x: Array, kernel: Array) -> Array:
        lead, sizes = x.shape[: x.ndim - ndim], x.shape[x.ndim - ndim :]
        y = lax.conv_general_dilated(x.reshape(-1, 1, *sizes), kernel[None, None], (1,) * ndim, "VALID")
        return y.reshape(*lead, *y.shape[2:])

    return {"lax.conv": call}


def numpy_filter(workload: Workload) -> dict[str, Call]:
    x_shape, window = workload.shapes
    lead = len(x_shape) - len(window)
    axes = tuple(range(lead, len(x_shape)))
    inside = tuple(slice(k // 2, n - (k - 1) // 2) for n, k in zip(x_shape[lead:], window, strict=True))

    def widened(kernel: Array) -> Array:
        return kernel[(None,) * lead]

    calls: dict[str, Call] = {
        "scipy fft": lambda x, kernel: signal.correlate(x, widened(kernel), "valid", "fft"),
        "scipy oaconvolve": lambda x, kernel: signal.oaconvolve(x, widened(np.flip(kernel)), "valid", axes=axes),
    }
    if len(window) == 1 or prod(x_shape) * prod(window) <= MOST_DIRECT:
        calls["scipy direct"] = lambda x, kernel: signal.correlate(x, widened(kernel), "valid", "direct")
        calls["scipy ndimage"] = lambda x, kernel: ndimage.correlate(x, widened(kernel), mode="constant")[..., *inside]
    return calls


def bare_arithmetic(workload: Workload) -> dict[str, Call]:
    """Two taps in a row, as NumPy's user writes them."""
    return {"numpy": lambda x, kernel: kernel[0, 0] * x[:, :-1] + kernel[0, 1] * x[:, 1:]}


# Layers: x (N, C, *sizes), kernel (O, C / groups, *window)


def torch_layer(workload: Workload) -> dict[str, Call]:
    ndim = len(workload.shapes[1]) - 2
    convolution, options = CONVOLUTIONS[ndim], workload.options
    return {f"torch.conv{ndim}d": lambda x, kernel: convolution(x, kernel, **options)}


def torch_depthwise(workload: Workload) -> dict[str, Call]:
    ndim, channels = len(workload.shapes[1]) - 2, workload.shapes[0][1]
    convolution, options = CONVOLUTIONS[ndim], workload.options
    return {
        f"torch.conv{ndim}d": lambda x, kernel: convolution(
            x, kernel.flatten(0, 1)[:, None], groups=channels, **options
        )
    }


def torch_transposed(workload: Workload) -> dict[str, Call]:
    ndim = len(workload.shapes[1]) - 2
    convolution, options = TRANSPOSED[ndim], workload.options
    return {f"torch.conv_transpose{ndim}d": lambda x, kernel: convolution(x, kernel, **options)}


def jax_layer(workload: Workload) -> dict[str, Call]:
    from jax import lax

    ndim, options = len(workload.shapes[1]) - 2, workload.options
    padding = [(width, width) for width in each(options.get("padding", 0), ndim)]
    stride, dilation = (each(options.get(name, 1), ndim) for name in ("stride", "dilation"))
    is_depthwise, is_single = workload.kind == "depthwise", len(workload.shapes[0]) == ndim + 1
    groups = workload.shapes[0][1] if is_depthwise else options.get("groups", 1)

    def call(x: Array, kernel: Array) -> Array:
        x = x[None] if is_single else x
        kernel = kernel.reshape(-1, 1, *kernel.shape[2:]) if is_depthwise else kernel
        y = lax.conv_general_dilated(x, kernel, stride, padding, rhs_dilation=dilation, feature_group_count=groups)
        return y[0] if is_single else y

    return {"lax.conv": call}


def jax_transposed(workload: Workload) -> dict[str, Call]:
    from jax import lax

    ndim, window, options = len(workload.shapes[1]) - 2, workload.shapes[1][2:], workload.options
    stride, crops = (each(options.get(name, default), ndim) for name, default in (("stride", 1), ("padding", 0)))
    padding = [(k - 1 - low, k - 1 - low) for k, low in zip(window, crops, strict=True)]
    letters = "DHW"[-ndim:]
    layout = (f"NC{letters}", f"OI{letters}", f"NC{letters}")

    def call(x: Array, kernel: Array) -> Array:
        return lax.conv_transpose(x, kernel, stride, padding, dimension_numbers=layout, transpose_kernel=True)

    return {"lax.conv_transpose": call}


def on_numpy(builder: Builder) -> Builder:
    """PyTorch's call on NumPy's data, which it shares."""

    def build(workload: Workload) -> dict[str, Call]:
        def shared(call: Call) -> Call:
            return lambda *arrays: call(*map(torch.from_numpy, arrays)).numpy()

        return {name: shared(call) for name, call in builder(workload).items()}

    return build


def ndimage_depthwise(workload: Workload) -> dict[str, Call]:
    """One pass of SciPy's for every channel of the whole batch; zeros for half a window of odd length are "same"."""
    stride = workload.options.get("stride", 1)
    assert set(workload.shapes[1][2:]) == {2 * workload.options["padding"] + 1}

    def call(x: Array, kernel: Array) -> Array:
        channels = [ndimage.correlate(x[:, c], kernel[c], mode="constant") for c in range(x.shape[1])]
        return np.stack(channels, axis=1)[:, :, ::stride, ::stride]

    return {"scipy ndimage": call}


def scipy_upfirdn(workload: Workload) -> dict[str, Call]:
    """One output channel: polyphase filters, one an input channel, summed."""
    stride = workload.options["stride"]
    assert workload.shapes[1][1] == 1 and len(workload.shapes[1]) == 3

    def call(x: Array, kernel: Array) -> Array:
        return sum(signal.upfirdn(kernel[c, 0], x[:, c], stride) for c in range(x.shape[1]))[:, None]

    return {"scipy upfirdn": call}


def numpy_transposed(workload: Workload) -> dict[str, Call]:
    serves = workload.shapes[1][1] == 1 and len(workload.shapes[1]) == 3
    return scipy_upfirdn(workload) if serves else on_numpy(torch_transposed)(workload)


# Deformable layers: x, offset (N, K * 2, *out), kernel; two dimensions, stride 1


def _positions(xp: Any, offset: Array, window: tuple[int, ...], padding: int) -> Array:
    """Where each tap reads: (N, K, 2, *out)."""
    taps = np.array([[t - padding for t in tap] for tap in product(*map(range, window))], np.float32)
    out = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in offset.shape[2:]), indexing="ij"))
    moved = offset.reshape(offset.shape[0], len(taps), 2, *offset.shape[2:])
    return moved + xp.asarray(taps[:, :, None, None] + out)


def torch_deform(workload: Workload) -> dict[str, Call]:
    padding = workload.options["padding"]

    def call(x: Array, offset: Array, kernel: Array) -> Array:
        batch, channels, *sizes = x.shape
        at = _positions(torch, offset, kernel.shape[2:], padding)
        scale = torch.tensor([2 / (n - 1) for n in sizes])[:, None, None]
        grid = (at * scale - 1).movedim(2, -1).flip(-1).flatten(1, 2)
        samples = functional.grid_sample(x, grid, align_corners=True).reshape(batch, channels * at.shape[1], -1)
        return (kernel.flatten(1) @ samples).reshape(batch, -1, *offset.shape[2:])

    return {"torch.grid_sample": call}


def jax_deform(workload: Workload) -> dict[str, Call]:
    import jax
    import jax.numpy as jnp
    from jax.scipy.ndimage import map_coordinates

    padding = workload.options["padding"]

    def sample(image: Array, at: Array) -> Array:
        return map_coordinates(image, [at[:, 0], at[:, 1]], order=1)

    def call(x: Array, offset: Array, kernel: Array) -> Array:
        at = _positions(jnp, offset, kernel.shape[2:], padding)
        samples = jax.vmap(jax.vmap(sample, (0, None)))(x, at)
        samples = samples.reshape(x.shape[0], x.shape[1] * at.shape[1], -1)
        return (kernel.reshape(kernel.shape[0], -1) @ samples).reshape(x.shape[0], -1, *offset.shape[2:])

    return {"jax map_coordinates": call}


def scipy_deform(workload: Workload) -> dict[str, Call]:
    padding = workload.options["padding"]

    def call(x: Array, offset: Array, kernel: Array) -> Array:
        at = np.moveaxis(_positions(np, offset, kernel.shape[2:], padding), 2, 1)
        samples = [
            [ndimage.map_coordinates(channel, where, order=1, mode="grid-constant") for channel in image]
            for image, where in zip(x, at, strict=True)
        ]
        columns = np.asarray(samples).reshape(x.shape[0], x.shape[1] * at.shape[2], -1)
        return (kernel.reshape(kernel.shape[0], -1) @ columns).reshape(x.shape[0], -1, *offset.shape[2:])

    return {"scipy map_coordinates": call}


# The kernel learner: the notebook's loop


def torch_descent(steps: int, rate: float) -> Call:
    """The notebook's loop without its printing."""

    def call(x: Array, y: Array, kernel: Array) -> Array:
        layer = torch.nn.Conv2d(1, 1, kernel_size=tuple(kernel.shape), bias=False)
        layer.weight.data[:] = kernel
        x, y = x[None, None], y[None, None]
        for _ in range(steps):
            loss = (layer(x) - y) ** 2
            layer.zero_grad()
            loss.sum().backward()
            assert layer.weight.grad is not None
            layer.weight.data[:] -= rate * layer.weight.grad
        return layer.weight.detach()[0, 0]

    return call


#: A builder for each library, for each kind of work.
KINDS: dict[str, dict[str, Builder]] = {
    "filter": {"numpy": numpy_filter, "torch": torch_filter, "jax": jax_filter},
    "tiny": {"numpy": bare_arithmetic, "torch": torch_filter, "jax": jax_filter},
    "layer": {"numpy": on_numpy(torch_layer), "torch": torch_layer, "jax": jax_layer},
    "depthwise": {"numpy": ndimage_depthwise, "torch": torch_depthwise, "jax": jax_layer},
    "transposed": {"numpy": numpy_transposed, "torch": torch_transposed, "jax": jax_transposed},
    "deform": {"numpy": scipy_deform, "torch": torch_deform, "jax": jax_deform},
}
