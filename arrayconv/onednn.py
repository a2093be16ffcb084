"""Which convolutions PyTorch hands to oneDNN by itself, and which of them oneDNN's fast kernels take."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from .geometry import Geometry, WindowDimension, is_plain
from .processor import vectors
from .program import Problem
from .transposes import VECTOR

#: Floats of an image that is worth the search for a way, and taps of the last two axes beyond which any image is.
SMALL, FEW = 20480, 3


def is_onednn(geometry: Geometry) -> bool:
    """A small image alone goes to a simpler way (``use_mkldnn`` in torch's aten/src/ATen/native/Convolution.cpp, which
    leaves out the last axis of a volume).
    """
    is_wide = min((1, *geometry.window)[-2:]) > FEW
    return geometry.groups > 1 or geometry.batch > 1 or is_wide or prod(geometry.x_shape[:4]) > SMALL


#: Elements of all windows of a volume below which a simpler way is the faster one (6 x 8 x 6 with 2 x 2 x 2 taps: 5 us,
#: and 41 by oneDNN).
VOLUME = 2**16


def is_lone_volume(geometry: Geometry) -> bool:
    """Whether a volume is worth oneDNN's convolution, and PyTorch would copy all of its windows."""
    is_large = geometry.ndim == 3 and geometry.batch * prod(geometry.out) * geometry.terms >= VOLUME
    return is_large and not is_onednn(geometry)


def is_unfolded(geometry: Geometry) -> bool:
    """Whether windows are copied and multiplied as matrices, without oneDNN."""
    return not (is_onednn(geometry) or is_lone_volume(geometry))


#: Floats of a vector, which are as many output channels.
LANES = {"avx512": 16, "avx2": 8}


def lanes(problem: Problem) -> int:
    """Output channels that oneDNN computes together; of types that it doesn't know products are matrices."""
    return LANES[vectors()] if problem.accumulator == "float32" else 1


#: Zeros beside the last axis that all of oneDNN's fast kernels take: no more than the outputs that they compute at once
#: (``l_pad <= ur_w`` in its src/cpu/x64), which are 6 in depthwise layers and up to 28 in others; with narrow vectors
#: 4 and 3. Beyond it a depthwise layer of 15 x 15 taps (64 channels, 64 x 64) took 51 ms, and 0.8 ms where x brought
#: its zeros.
MOST_PADDING = {"avx512": 6, "avx2": 3}

#: Zeros that they take of layers with few channels in or short windows (80 drawn ones take 1.1 times as long with
#: zeros beforehand; with more channels and taps, or more zeros, 0.6 times): less than a vector, or below so many taps.
MORE_PADDING = {"avx512": 28, "avx2": 3}
TAPS = 15

#: Taps and outputs of the last axis, multiplied, up to which wide vectors compute a row at once, and so leave out its
#: zeros (of 77 drawn layers none is faster with them beforehand, and all take 0.7 of that time in the geometric mean).
ROW = {"avx512": 334, "avx2": 0}


def is_depthwise(geometry: Geometry) -> bool:
    """One channel in and one out; three axes without dilation."""
    is_single = geometry.inputs == geometry.outputs == 1
    return geometry.groups > 1 and is_single and (geometry.ndim < 3 or is_plain(geometry))


def is_row(last: WindowDimension) -> bool:
    """Whether an axis is computed at once, and no more zeros stand before it than there are outputs."""
    return last.low <= last.output and last.kernel * last.output <= ROW[vectors()]


def most_padding(geometry: Geometry) -> int:
    """Zeros before the last axis that fast kernels add."""
    is_small = geometry.inputs < VECTOR or geometry.axes[-1].kernel < TAPS
    return (MORE_PADDING if is_small and not is_depthwise(geometry) else MOST_PADDING)[vectors()]


def is_padding_refused(geometry: Geometry) -> bool:
    """Whether the last axis has more zeros than fast kernels add. Slow ones skip them, and are slower all the same: by
    1.7 in the geometric mean of 189 layers with more zeros than elements.
    """
    last = geometry.axes[-1]
    is_wide = last.low > min(most_padding(geometry), last.output)
    return is_wide and not is_unfolded(geometry) and (is_depthwise(geometry) or not is_row(last))


#: Taps of the last axis up to which the kernels of narrow vectors take strides and zeros at once (``jcp.kw > 7`` in
#: jit_avx2_conv_kernel_f32.cpp). Beyond it 9 x 9 taps, stride 2, took 19 ms in place of 7.
STRIDED = 7


def is_stride_refused(geometry: Geometry) -> bool:
    """Whether fast kernels don't add zeros to the last two axes, since they stride."""
    plane = geometry.axes[-2:]
    return vectors() == "avx2" and plane[-1].kernel > STRIDED and any(axis.stride > 1 for axis in plane)


@lru_cache(maxsize=1024)  # most images have two axes alike
def met(axis: WindowDimension) -> float:
    """The share of an axis's pairs of outputs and taps that meet an element of x; with a base dilation, about.

    Fast kernels leave out the rows of a window that lie among the zeros, of all axes but the last (``t_overflow`` in
    oneDNN's src/cpu/x64), and of that too where `is_row`. So do XLA's plain loops.
    """
    if axis.low <= 0 and axis.high <= 0:
        return 1 / axis.base_dilation
    count, step, most, stride = axis.kernel, axis.window_dilation, axis.output, axis.stride
    if count > most:
        count, step, most, stride = most, stride, count, step
    pairs = 0
    for place in range(count):
        first = axis.low - place * step  # where x's first element lies from the first of the longer loop
        start, stop = max(0, -(-first // stride)), min(most, -(-(first + axis.base) // stride))
        pairs += max(0, stop - start)
    return pairs / max(1, axis.output * axis.kernel * axis.base_dilation)
