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


#: Columns of a piece at least, terms of a product that count, and what columns and channels times terms amount to in a
#: piece that is worth a task (``choose_split_factors`` in its subgraph/dot.cc; the last was measured: 648 terms of 128
#: channels on 28 columns run on one thread, 720 on two).
COLUMNS, TERMS, TASK = 16, 1024, 98304


def is_one_task(geometry: Geometry) -> bool:
    """Whether threads find nothing to share: they take pieces of a row of outputs, one row after the other."""
    columns, terms = min(geometry.out[-1], COLUMNS), min(geometry.terms, TERMS)
    while columns < geometry.out[-1] and (columns + geometry.outputs) * terms < TASK:
        columns *= 2
    return columns >= geometry.out[-1]
