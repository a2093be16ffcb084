"""Deformable convolution: every tap reads x where its offset says."""

from __future__ import annotations

from typing import Any

from ..arguments import Padding, PerAxis, read_word
from ..backend import Backend
from ..gather import gather_arrays
from .call import Pullback, as_dtype
from .deform_blocks import pull_blocks, run_blocks
from .deform_call import OP, Arrays, DeformCall, call_key, find_deform, pull_call, run_call
from .linear import WORDS, Options, freeze

Array = Any


def deform_conv(
    x: Array,
    offset: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    mask: Array | None = None,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    groups: int = 1,
    channels: str = "first",
) -> Array:
    """`conv` whose taps are moved by an offset of their own at every output (Dai et al. 2017, "Deformable convolutional
    networks"), and weighted by a mask if there is one (Zhu et al. 2019, version 2).

    ``y[n, o, j] = bias[o] + sum_{c, t} kernel[o, c, t] * mask[n, q, t, j] * x[n, c](p)``, where output channel o of
    group g reads that group's channels c only, q is the offset group of c, and ``x[n, c](p)`` is the multilinear sample
    at ``p = j * stride + t * dilation - low + offset[n, q, t, :, j]``. Beyond x lie zeros, into which the samples
    between x's last element and one step further fade. The order of the offsets and the values are those of
    `torchvision.ops.deform_conv2d` and ONNX's DeformConv, here in 1, 2 or 3 dimensions.

    All arrays have derivatives. Where a position is an integer, the offset's is the one from the right, as in
    torchvision; so it is for offsets of zero, with which the result is `conv`'s.

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``, of a floating type; leading axes
            are a batch, none, one or many.
        offset: ``(..., G * K * D, *out)``, or ``(..., *out, G * K * D)``: for each of G offset groups and K taps, in
            row-major order, D distances, one a spatial axis: ``(dy, dx)`` in two dimensions. G follows from the shape,
            and must divide C.
        kernel: ``(O, C / groups, *window)``, or ``(*window, C / groups, O)`` with ``channels="last"``.
        bias: ``(O,)`` or None.
        mask: ``(..., G * K, *out)``, or ``(..., *out, G * K)``, or None.
        stride, padding, dilation, groups, channels: as in `conv`.

    Returns:
        ``(..., O, *out)`` or ``(..., *out, O)`` of ``result_type(x, kernel)``.

    The samples are gathered in tiles under the workspace of `settings`; a table of one image's rows comes beside.
    Dask: the batch may be chunked, each chunk is one task; space and channels may not.

    Raises:
        TypeError: a list, a bool array, integers, a complex offset or mask, arrays of two libraries or devices.
        ValueError: shapes, channels, groups or options that don't fit, more than three spatial axes, a Dask array that
            is chunked along space or channels.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> x, kernel = np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([[[1.0, 10.0]]])
    >>> offset = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    >>> ac.deform_conv(x, offset, kernel)
    array([[21., 43., 44.]])
    """
    options = read_options(stride=stride, padding=padding, dilation=dilation, groups=groups, channels=channels)
    backend, call, arrays = read_call(Arrays(x, offset, kernel, bias, mask), options)
    return run_blocks(backend, call, arrays, options) if backend.has_blocks else run_call(backend, call, arrays)


def pull_deform_conv(
    x: Array, offset: Array, kernel: Array, bias: Array | None = None, *, mask: Array | None = None, **given: Any
) -> tuple[Array, Pullback]:
    """`deform_conv`, and the function from its cotangent to those of x, offset, kernel, bias, mask, in that order."""
    options = read_options(**given)
    backend, call, arrays = read_call(Arrays(x, offset, kernel, bias, mask), options)

    def pullback(dy: Array) -> tuple[Array, ...]:
        if backend.has_blocks:
            shares = pull_blocks(backend, call, arrays, options, dy)
        else:
            shares = pull_call(backend, call, arrays, dy)
        pairs = zip(shares, arrays, strict=True)
        return tuple(as_dtype(backend, share, array.dtype) for share, array in pairs if array is not None)

    y = run_blocks(backend, call, arrays, options) if backend.has_blocks else run_call(backend, call, arrays)
    return y, pullback


def read_options(**given: Any) -> Options:
    """The options as plain values, not yet checked against shapes."""
    options = Options(**{name: value if name in WORDS else freeze(OP, name, value) for name, value in given.items()})
    if type(options.channels) is not str:  # it may be unhashable
        read_word(OP, "channels", options.channels, WORDS["channels"])
    return options


def read_call(arrays: Arrays, options: Options) -> tuple[Backend, DeformCall, Arrays]:
    """Arrays gathered, and the cached plan for their shapes and types."""
    backend, gathered = gather_arrays(OP, Arrays._fields, arrays)
    arrays = Arrays(*gathered)
    return backend, backend.fold(find_deform, *call_key(backend, arrays, options)), arrays
