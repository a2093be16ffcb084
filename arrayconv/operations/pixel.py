"""Sub-pixels: channels that become finer positions, and the convolution that computes them (Shi et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any

from ..arguments import Padding, PerAxis, read_per_axis, read_word
from ..backend import Backend
from ..gather import gather_arrays
from ..layout import Layout
from .call import Pullback, as_dtype
from .columns import LAYOUTS, accumulator
from .conv import channel_shape, read_conv, read_ranks
from .linear import Options, Reading, call_linear, freeze
from .pixel_blocks import shuffle_blocks

Array = Any
Shape = tuple[int, ...]


def orders(lead: int, ndim: int, channels: str) -> tuple[list[str], list[str]]:
    """The axes of the coarse and of the fine array by name, with the sub-positions r as axes of their own.

    ``n c r s -> n c (s r)`` with the channels in front, ``n s c r -> n (s r) c`` with the channels last: in both, the
    coarse array's channel index is slow in the channel and fast in the sub-position.
    """
    batch, size, sub = [f"n{i}" for i in range(lead)], [f"s{i}" for i in range(ndim)], [f"r{i}" for i in range(ndim)]
    woven = [*chain.from_iterable(zip(size, sub, strict=True))]
    if channels == "last":
        return [*batch, *size, "c", *sub], [*batch, *woven, "c"]
    return [*batch, "c", *sub, *size], [*batch, "c", *woven]


def lengths(lead: Shape, count: int, sizes: Shape, factor: Shape) -> dict[str, int]:
    """How long the axes of `orders` are; ``sizes`` are the coarse ones."""
    groups = (("n", lead), ("s", sizes), ("r", factor))
    return {"c": count, **{f"{name}{i}": n for name, values in groups for i, n in enumerate(values)}}


def relayout(shape: Shape, source: list[str], target: list[str], length: dict[str, int], merged: Shape) -> Layout:
    """An array with the axes ``source`` brought to the order ``target``."""
    axes = tuple(source.index(name) for name in target)
    return Layout(shape, tuple(length[name] for name in source), axes, merged=merged)


def find_pixels(*key: Any) -> Layout:
    """`read_pixels`, remembered."""
    return read_pixels(*key)


@lru_cache(maxsize=4096)
def read_pixels(op: str, shape: Shape, factor: Any, channels: Any) -> Layout:
    """The arguments of both shuffles as the way from x to the result."""
    read_word(op, "channels", channels, LAYOUTS)
    ndim = len(factor) if isinstance(factor, tuple) else len(shape) - 2
    if ndim < 1 or len(shape) < ndim + 1:
        raise ValueError(
            f"{op}: factor={factor} needs x as (N, C, *spatial) for one int, or with a channel axis and an axis for "
            f"each entry, at least one; got shape {shape}"
        )
    factors = read_per_axis(op, "factor", factor, ndim, 1)
    first = len(shape) - ndim - 1
    lead, inner = shape[:first], shape[first:]
    count, sizes = (inner[-1], inner[:-1]) if channels == "last" else (inner[0], inner[1:])
    coarse, fine = orders(first, ndim, channels)
    if op == "pixel_shuffle":
        count = read_count(op, count, factors, f"x of shape {shape}")
        source, target = coarse, fine
        merged = channel_shape(lead, count, enlarge(sizes, factors), channels)
    else:
        sizes = read_coarse(op, sizes, factors)
        source, target = fine, coarse
        merged = channel_shape(lead, count * prod(factors), sizes, channels)
    length = lengths(lead, count, sizes, factors)
    return relayout(shape, source, target, length, merged)


def read_count(op: str, channels: int, factor: Shape, name: str) -> int:
    """Channels of the fine array."""
    if channels % prod(factor):
        raise ValueError(
            f"{op}: factor={factor} must divide the channels, {name} has {channels}, not a multiple of {prod(factor)}; "
            f"check channels= and the factor"
        )
    return channels // prod(factor)


def read_coarse(op: str, sizes: Shape, factor: Shape) -> Shape:
    """Spatial sizes of the coarse array."""
    if any(n % r for n, r in zip(sizes, factor, strict=True)):
        raise ValueError(f"{op}: factor={factor} must divide the spatial sizes, got {sizes}; pad or crop x first")
    return tuple(n // r for n, r in zip(sizes, factor, strict=True))


def enlarge(sizes: Shape, factor: Shape) -> Shape:
    """Spatial sizes of the fine array."""
    return tuple(n * r for n, r in zip(sizes, factor, strict=True))


def move(op: str, x: Array, factor: Any, channels: Any) -> tuple[Backend, Array, Array]:
    """Either shuffle: (backend, x, result)."""
    backend, (x,) = gather_arrays(op, ("x",), (x,))
    key = freeze(op, "factor", factor), freeze(op, "channels", channels)
    layout = backend.fold(find_pixels, op, tuple(x.shape), *key)
    if backend.has_blocks and 0 not in x.shape:
        factors = factor if isinstance(factor, Sequence) else (factor,) * (x.ndim - 2)
        grows = op == "pixel_shuffle"
        return backend, x, shuffle_blocks(backend.xp, MOVES[op], x, tuple(factors), channels, grows=grows)
    xp = backend.xp
    y = xp.permute_dims(xp.reshape(x, layout.split), layout.axes)
    return backend, x, backend.copy(xp.reshape(y, layout.merged))


def pixel_shuffle(x: Array, factor: int | Sequence[int], *, channels: str = "first") -> Array:
    """Channels as sub-pixels: every ``prod(factor)`` neighbouring channels become a block of one.

    ``y[n, c, s * r + p] = x[n, c * R + q, s]`` with r the factor, p a position in the block ``r_1 x r_2 x ...``, q its
    row-major index and ``R = prod(r)``: the order of `torch.nn.functional.pixel_shuffle` and of ONNX's DepthToSpace
    in mode CRD, for any number of spatial axes. Both values of ``channels`` index channels so; TensorFlow's
    ``depth_to_space`` and ONNX's mode DCR differ: their sub-position is the slower part, ``q * C + c``.

    Args:
        x: ``(..., C * prod(factor), *spatial)``, or ``(..., *spatial, C * prod(factor))`` with ``channels="last"``.
        factor: a tuple with one int a spatial axis; the axes before are a batch, none, one or many. Or one int for
            every spatial axis of an x that is ``(N, C, *spatial)`` or ``(N, *spatial, C)``, with just one batch axis
            (PyTorch's takes the last two axes as spatial, whatever is in front of them: write ``(r, r)`` for that).
        channels: where the channel axis stands.

    Returns:
        ``(..., C, *(n * r))`` or ``(..., *(n * r), C)`` of x's dtype.

    Raises:
        TypeError: a list, a bool array, factors that are no ints.
        ValueError: channels that ``prod(factor)`` does not divide, too few axes, factors below 1, an unknown word.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.pixel_shuffle(np.array([[[1, 2, 3], [10, 20, 30]]]), 2)
    array([[[ 1, 10,  2, 20,  3, 30]]])
    """
    return move("pixel_shuffle", x, factor, channels)[2]


def pixel_unshuffle(x: Array, factor: int | Sequence[int], *, channels: str = "first") -> Array:
    """Blocks of positions as channels: the inverse of `pixel_shuffle`, and its transpose.

    It is `unfold` with ``window == stride == factor``, with the windows still in space.

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``.
        factor: a tuple with one int a spatial axis, or one int, as in `pixel_shuffle`; each divides its axis.
        channels: where the channel axis stands.

    Returns:
        ``(..., C * prod(factor), *(n / r))`` or ``(..., *(n / r), C * prod(factor))`` of x's dtype.

    Raises:
        TypeError: a list, a bool array, factors that are no ints.
        ValueError: sizes that the factor does not divide, too few axes, factors below 1, an unknown word.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.pixel_unshuffle(np.array([[[1, 10, 2, 20, 3, 30]]]), 2)
    array([[[ 1,  2,  3],
            [10, 20, 30]]])
    """
    return move("pixel_unshuffle", x, factor, channels)[2]


#: What is done to a block.
MOVES = {"pixel_shuffle": pixel_shuffle, "pixel_unshuffle": pixel_unshuffle}


def pull_pixel_shuffle(x: Array, factor: Any, *, channels: Any = "first") -> tuple[Array, Pullback]:
    """`pixel_shuffle`, and its transpose: a permutation's inverse."""
    return pull_move("pixel_shuffle", "pixel_unshuffle", x, factor, channels)


def pull_pixel_unshuffle(x: Array, factor: Any, *, channels: Any = "first") -> tuple[Array, Pullback]:
    """`pixel_unshuffle`, and its transpose: a permutation's inverse."""
    return pull_move("pixel_unshuffle", "pixel_shuffle", x, factor, channels)


def pull_move(op: str, inverse: str, x: Array, factor: Any, channels: Any) -> tuple[Array, Pullback]:
    backend, x, y = move(op, x, factor, channels)
    return y, lambda dy: (as_dtype(backend, move(inverse, dy, factor, channels)[2], x.dtype),)


def read_subpixel_conv(op: str, x_shape: Shape, kernel_shape: Shape, options: Options) -> Reading:
    """`conv`'s reading, with the shuffle in the layout of y."""
    ndim = read_ranks(op, x_shape, kernel_shape)
    factor = read_per_axis(op, "factor", options.factor, ndim, 1)
    x_layout, kernel_layout, _, pieces, geometry = read_conv(op, x_shape, kernel_shape, options)
    count = read_count(op, geometry.groups * geometry.outputs, factor, f"kernel of shape {kernel_shape}")
    lead = x_shape[: len(x_shape) - ndim - 1]
    fine = orders(len(lead), ndim, options.channels)[1]
    coarse = orders(len(lead), ndim, "first")[0]
    y_shape = channel_shape(lead, count, enlarge(geometry.out, factor), options.channels)
    y_layout = relayout(y_shape, fine, coarse, lengths(lead, count, geometry.out, factor), geometry.y_shape)
    return x_layout, kernel_layout, y_layout, pieces, geometry


def subpixel_conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    factor: int | Sequence[int],
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    groups: int = 1,
    channels: str = "first",
    boundary: str = "constant",
    dtype: Any = None,
    algorithm: str = "auto",
) -> Array:
    """Pixel shuffle convolution: `conv` at the coarse resolution, then `pixel_shuffle` of its channels.

    The efficient sub-pixel convolution of Shi et al. 2016 ("Real-time single image and video super-resolution"). With
    stride and dilation 1 it is a transposed convolution of stride ``factor``: that whose kernel is `pixel_shuffle` of
    this one, flipped and with its channel axes swapped (Shi et al. 2016, "Is the deconvolution layer the same as a
    convolutional layer?"). `icnr` makes a kernel that starts without checkerboard.

    Args:
        x: ``(..., C, *spatial)``, or ``(..., *spatial, C)`` with ``channels="last"``.
        kernel: ``(O * prod(factor), C / groups, *window)``, or ``(*window, C / groups, O * prod(factor))`` with
            ``channels="last"``; neighbouring output channels are the sub-positions of one.
        bias: ``(O * prod(factor),)`` or None.
        factor: one int, or one for each of the kernel's spatial axes.
        stride, padding, dilation, groups, channels, boundary, dtype, algorithm: as in `conv`.

    Returns:
        ``(..., O, *(out * factor))`` or ``(..., *(out * factor), O)``, ``out`` being that of `conv`.

    Raises:
        TypeError: what `conv` raises.
        ValueError: what `conv` raises, and output channels that ``prod(factor)`` does not divide.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.subpixel_conv(np.array([[1, 2, 3]]), np.array([[[1]], [[10]]]), factor=2)
    array([[ 1, 10,  2, 20,  3, 30]])
    """
    options = Options(
        freeze("subpixel_conv", "stride", stride),
        freeze("subpixel_conv", "padding", padding),
        freeze("subpixel_conv", "dilation", dilation),
        boundary,
        algorithm,
        freeze("subpixel_conv", "groups", groups),
        channels,
        factor=freeze("subpixel_conv", "factor", factor),
    )
    return call_linear(read_subpixel_conv, "subpixel_conv", x, kernel, bias, dtype, options)


def icnr(kernel: Array, factor: int | Sequence[int], *, channels: str = "first") -> Array:
    """A kernel with which `subpixel_conv` starts without checkerboard: every output channel ``prod(factor)`` times.

    All sub-positions of a pixel then see the same kernel, so ``subpixel_conv(x, icnr(kernel, factor), factor=factor)``
    is ``conv(x, kernel)`` enlarged to its nearest neighbours ("initialized to convolution NN resize", Aitken et al.
    2017, "Checkerboard artifact free sub-pixel convolution").

    Args:
        kernel: the small kernel ``(O, C, *window)``, or ``(*window, C, O)`` with ``channels="last"``, of any
            initialisation.
        factor: one int, or one for each of the kernel's spatial axes.
        channels: the kernel's layout.

    Returns:
        ``(O * prod(factor), C, *window)`` or ``(*window, C, O * prod(factor))`` of the kernel's dtype.

    Raises:
        TypeError: a list, a bool array, factors that are no ints.
        ValueError: a kernel without spatial axis, factors below 1, an unknown word.

    >>> import numpy as np
    >>> import arrayconv as ac
    >>> ac.icnr(np.array([[[1, 2]]]), 3)
    array([[[1, 2]],
           [[1, 2]],
           [[1, 2]]])
    """
    return repeat_outputs(kernel, factor, channels)[2]


def repeat_outputs(kernel: Array, factor: Any, channels: Any) -> tuple[Backend, Array, Array, int, Shape]:
    """`icnr`, and what its transpose needs: the axis of the copies and the shape before they were merged."""
    backend, (kernel,) = gather_arrays("icnr", ("kernel",), (kernel,))
    if kernel.ndim < 3:
        raise ValueError(
            f"icnr: kernel must have two channel axes and at least one spatial axis, got shape {tuple(kernel.shape)}"
        )
    copies = prod(read_per_axis("icnr", "factor", factor, kernel.ndim - 2, 1))
    axis = kernel.ndim if read_word("icnr", "channels", channels, LAYOUTS) == "last" else 1
    stacked = backend.xp.stack([kernel] * copies, axis=axis)
    outer, inner = kernel.shape[: axis - 1], kernel.shape[axis:]
    large = backend.xp.reshape(stacked, (*outer, kernel.shape[axis - 1] * copies, *inner))
    return backend, kernel, large, axis, tuple(stacked.shape)


def pull_icnr(kernel: Array, factor: Any, *, channels: Any = "first") -> tuple[Array, Pullback]:
    """`icnr`, and its transpose: the sum over the copies."""
    backend, kernel, large, axis, shape = repeat_outputs(kernel, factor, channels)

    def pullback(dy: Array) -> tuple[Array, ...]:
        dy = backend.xp.reshape(backend.cast(dy, accumulator(backend, dy)), shape)
        return (as_dtype(backend, backend.xp.sum(dy, axis=axis, dtype=dy.dtype), kernel.dtype),)

    return large, pullback
