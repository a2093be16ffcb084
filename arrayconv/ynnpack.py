"""Which convolutions XLA hands to YNNPACK on CPUs, and which of them it runs on one thread."""

from __future__ import annotations

from .geometry import Geometry

#: Channels in or out, of all groups, beyond which an image is worth the call.
FEW = 16


def is_ynnpack(geometry: Geometry) -> bool:
    """Images that get no larger; all else is left to Eigen's spatial convolution, as everything was in older releases
    of JAX (``IsConvolutionOpSupportedByYnn`` in xla/backends/cpu/ynn_support.cc).
    """
    channels = geometry.groups * max(geometry.inputs, geometry.outputs)
    is_kept = all(max(axis.output, axis.kernel) <= axis.size for axis in geometry.axes)
    is_whole = all(axis.base_dilation == 1 for axis in geometry.axes)
    return geometry.ndim == 2 and channels > FEW and is_kept and is_whole


#: Multiply-adds of a row of outputs from which threads share it, and channels and terms from which they share any row:
#: 28 columns of 128 channels of 576 terms run on one thread, 56 on two, and 14 of 256 channels on two.
ROW, CHANNELS, TERMS = 4e6, 256, 256


def is_one_task(geometry: Geometry) -> bool:
    """Whether threads find nothing to share: they take pieces of a row of outputs, one row after the other
    (``choose_split_factors`` in YNNPACK's subgraph/dot.cc; its sizes of pieces were measured).
    """
    is_wide = geometry.outputs >= CHANNELS and geometry.terms >= TERMS
    return not is_wide and geometry.out[-1] * geometry.outputs * geometry.terms < ROW
