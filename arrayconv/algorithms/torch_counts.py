"""What PyTorch's own convolution has to do (`native_counts.py`): oneDNN's routines, and loops over matrices."""

from __future__ import annotations

from math import prod

from ..geometry import Geometry, is_plain
from ..onednn import is_depthwise, is_onednn, is_row, is_unfolded, met
from ..program import Problem
from ..transposes import VECTOR
from .algorithm import FRESH, fresh, in_floats, positions
from .rates import Counts

#: Types that oneDNN does not know.
UNFOLDING = "float64", "complex128"

#: Input channels of a first layer, which are read where they are; more are gathered in vectors.
FEW = 3

#: Channels in and out from which products reach their full rate.
THICK = 32

#: Taps from which a single output channel is a product of a matrix and a long vector.
LONG = 1024

#: Taps of the last axis that are unrolled.
UNROLLED = 36


def torch_counts(problem: Problem) -> Counts:
    """oneDNN's where it knows the type; a complex convolution is three real ones."""
    return unfolding_counts(problem) if problem.accumulator in UNFOLDING else onednn_counts(problem)


def torch_moved(problem: Problem) -> tuple[str, ...]:
    """Units that all of its ways count: loops read the kernel where it lies, oneDNN's write at prices of their own."""
    return ("call", "input", "output" if problem.accumulator in UNFOLDING else "kernel")


def unfolding_counts(problem: Problem) -> Counts:
    """Loops that copy all windows of an image and multiply matrices, one image and group after the other."""
    geometry, size = problem.geometry, in_floats(problem)
    is_dilated = geometry.is_base_dilated
    kind = "base dilated" if is_dilated else "whole" if is_plain(geometry) else "dilated"
    kind = f"{kind} unfolded" + " 3d" * (geometry.ndim > 2)
    starts = prod(geometry.sizes if is_dilated else geometry.out)
    channels = geometry.outputs if is_dilated else geometry.inputs
    images = geometry.batch * geometry.groups
    return {
        "call": 1.0,
        "group": float(geometry.groups),
        "matrix": float(images),
        kind: images * geometry.inputs * geometry.outputs * starts * geometry.taps * size,
        f"{kind} column": images * channels * starts * geometry.taps * size,
        "input": prod(geometry.x_shape) * size,
        "output": prod(geometry.y_shape) * size,
    }


def torch_back_counts(problem: Problem) -> Counts:
    """Of the gradient of a convolution's x: its transposed one's, by matrices where the convolution itself is."""
    back = problem.with_geometry(problem.geometry.input_transpose())
    return (
        torch_counts(back) if problem.accumulator in UNFOLDING else onednn_counts(back, is_unfolded(problem.geometry))
    )


def onednn_counts(problem: Problem, by_matrices: bool | None = None) -> Counts:
    """oneDNN computes output channels in vectors: one channel costs as much as sixteen, and of a depthwise convolution
    sixteen groups as much as one. Groups of several channels have vectors each, or share them by fours.
    """
    geometry, size = problem.geometry, in_floats(problem)
    by_matrices = is_by_matrices(geometry) if by_matrices is None else by_matrices
    kind, vectors = onednn_kind(geometry, by_matrices)
    # A base dilation is a transposed convolution's stride: every element of x meets every tap, what is cropped too; and
    # channels are written as they are, others in whole vectors.
    starts = prod(geometry.sizes if geometry.is_base_dilated else geometry.out)
    pairs = geometry.batch * geometry.inputs * starts * geometry.taps * size
    if not (geometry.is_base_dilated or "folded" in kind or "pointwise" in kind):
        is_whole = geometry.groups == 1 and is_row(geometry.axes[-1])
        pairs *= prod([met(axis) for axis in (geometry.axes if is_whole else geometry.axes[:-1])])
    pairs *= 2 if is_alone(geometry, kind) else 1
    results = (prod(geometry.y_shape) if geometry.is_base_dilated else positions(geometry) * vectors) * size
    word = "base dilated" if geometry.is_base_dilated else kind
    moved = {"input": prod(geometry.x_shape) * size, "kernel": prod(geometry.kernel_shape) * size}
    if kind.startswith("long"):
        moved = {f"{kind} input": moved["input"] + moved["kernel"]}
    if kind.startswith("blocked"):
        moved["blocked input"] = moved["input"]  # in an order of four channels, by loops without vectors
    if "folded" in kind:
        channels = geometry.outputs if geometry.is_base_dilated else geometry.inputs
        moved[f"{word} column"] = geometry.batch * channels * starts * geometry.taps * size
    return {
        "call": 1.0,
        "primitive": float(not by_matrices),
        "group": float(geometry.batch * geometry.groups) if "grouped" in kind or "blocked" in kind else 0.0,
        kind: pairs * vectors,
        f"{word} output": results,
        "fresh": sum([fresh(size, count) for count in paged(problem, kind)]),
        **moved,
    }


def is_alone(geometry: Geometry, kind: str) -> bool:
    """Whether one thread computes all: wide loops share out images and rows, of which a signal is one."""
    return kind == "wide" and geometry.ndim == 1 and geometry.batch == 1


def is_by_matrices(geometry: Geometry) -> bool:
    """Whether windows are copied and multiplied, or products added up, without oneDNN."""
    return not is_onednn(geometry) if geometry.is_base_dilated else is_unfolded(geometry)


def onednn_kind(geometry: Geometry, by_matrices: bool) -> tuple[str, int]:
    """The first way that serves, and the output channels that it computes."""
    if geometry.taps == 1:
        word, vectors = pointwise(geometry), geometry.groups * in_vectors(geometry.outputs)
    elif geometry.is_base_dilated:
        word, vectors = transposed_way(geometry, by_matrices)
    else:
        word, vectors = grouped_way(geometry) if geometry.groups > 1 else dense_way(geometry, by_matrices)
    if geometry.is_base_dilated:
        return f"base dilated {word}", vectors
    return word + " 3d" * (geometry.ndim > 2 and word not in FLAT), vectors


#: Ways whose speeds are the same over three axes.
FLAT = "pointwise", "strided pointwise", "pointwise grouped", "strided pointwise grouped", "wide"


def transposed_way(geometry: Geometry, by_matrices: bool) -> tuple[str, int]:
    groups, outputs, is_sparse = geometry.groups, geometry.outputs, not is_plain(geometry)
    if groups == 1 and (is_sparse or by_matrices):
        return "folded", outputs  # products of each element with all taps, which are then added up
    if groups > 1:
        word, vectors = grouped_way(geometry)
        if word == "depthwise":
            return "sparse " * is_sparse + word, vectors
        return word, groups * outputs
    word = "single" if geometry.inputs == outputs == 1 else "thin" if geometry.inputs <= FEW else "dense"
    return word, in_vectors(outputs)


def grouped_way(geometry: Geometry) -> tuple[str, int]:
    groups, outputs = geometry.groups, geometry.outputs
    if is_depthwise(geometry):
        return "depthwise", in_vectors(groups)
    if geometry.inputs % 4 == outputs % 4 == 0:
        return "blocked", groups * outputs
    return "grouped", groups * in_vectors(outputs)


def dense_way(geometry: Geometry, by_matrices: bool) -> tuple[str, int]:
    inputs, outputs, ndim = geometry.inputs, geometry.outputs, geometry.ndim
    channels = in_vectors(outputs)
    if by_matrices:
        return "unfolded", outputs
    if outputs == 1 and geometry.taps >= LONG:
        return "long", channels
    if ndim > 2 and not is_plain(geometry):
        return "dilated", channels
    if inputs <= FEW:
        return "thin", channels
    if geometry.axes[-1].kernel > UNROLLED:
        return "wide", channels
    return "thick" if ndim < 3 and inputs >= THICK <= outputs else "dense", channels


#: Ways that take arrays as they lie; others copy x, and write channels in vectors.
PLAIN = ("grouped", "wide", "long", "folded", "base dilated")


def is_copied(kind: str) -> bool:
    """Whether x or y are copied to that order."""
    return "depthwise" in kind or not any(word in kind for word in PLAIN)


def copies(geometry: Geometry, kind: str) -> tuple[int, int]:
    """Elements of x and y in an order of oneDNN's own, in whole vectors; channels of dense layers that fill none are
    read where they are.
    """
    if not is_copied(kind):
        return 0, prod(geometry.y_shape)
    channels = geometry.groups * geometry.inputs
    is_read = channels >= VECTOR or "depthwise" in kind
    read = geometry.batch * prod(geometry.sizes) * in_vectors(channels) if is_read else 0
    written = positions(geometry) * in_vectors(geometry.groups * geometry.outputs)
    return read, written


def torch_copies(problem: Problem) -> tuple[int, int]:
    """Bytes of `copies`, where there are any."""
    geometry = problem.geometry
    if problem.accumulator in UNFOLDING or is_by_matrices(geometry):
        return 0, 0
    kind, _ = onednn_kind(geometry, by_matrices=False)
    if not is_copied(kind):
        return 0, 0
    read, written = copies(geometry, kind)
    return read * problem.itemsize, written * problem.itemsize


def torch_scratch(problem: Problem) -> int:
    """Of both."""
    return sum(torch_copies(problem))


#: Bytes beyond which the C library gives memory back: of one array, and of all together, which is twice that
#: (mallopt(3), M_TRIM_THRESHOLD).
KEPT, KEPT_IN_ALL = 4 * FRESH, 8 * FRESH


def torch_pieces(problem: Problem) -> int:
    """Bytes of the copies and the result, where they are more than that on a CPU; else 0."""
    if problem.device != "cpu" or not any(copied := torch_copies(problem)):
        return 0
    arrays = *copied, prod(problem.geometry.y_shape) * problem.itemsize
    return sum(arrays) if max(arrays) > KEPT or sum(arrays) > KEPT_IN_ALL else 0


def paged(problem: Problem, kind: str) -> tuple[int, ...]:
    """Elements of each array that is made for a call: in pieces, of the result alone."""
    return (prod(problem.geometry.y_shape),) if torch_pieces(problem) else copies(problem.geometry, kind)


def in_vectors(channels: int, vector: int = VECTOR) -> int:
    return -(-channels // vector) * vector


def pointwise(geometry: Geometry) -> str:
    """A window of one tap is a matrix product for each group, of what strides leave."""
    is_strided = any(axis.stride > 1 for axis in geometry.axes)
    return "strided " * is_strided + "pointwise" + " grouped" * (geometry.groups > 1)
