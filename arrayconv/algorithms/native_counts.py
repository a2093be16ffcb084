"""What a library's own convolution has to do, in the units of `rates.py`.

Each library runs a geometry in one of several ways, whose speeds are up to a hundred times apart: a *kind* of work is a
way, and the rules that choose it are the library's (measured on CPUs; accelerators take their own convolution anyway).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from ..geometry import Geometry, WindowDimension, is_plain, is_unpadded_image
from ..onednn import is_depthwise, met
from ..program import Problem
from ..transposes import VECTOR
from ..ynnpack import busiest, fed, is_ynnpack, lanes
from .algorithm import fresh, in_floats, padded, positions
from .rates import Counts
from .torch_counts import in_vectors, pointwise, torch_counts, torch_moved, torch_pieces, torch_scratch


def convolution_counts(problem: Problem) -> Counts:
    """The library's own rules; a library that was not looked at is taken to run as torch does."""
    return LIBRARIES.get(problem.library, torch_counts)(problem)


def moved_counts(problem: Problem, inputs: float, kernel: float, outputs: float) -> Counts:
    """What all ways of a library move of so many floats, without what only some of them do."""
    moved = {"call": 1.0, "input": inputs, "kernel": kernel, "output": outputs}
    return {unit: moved[unit] for unit in MOVED.get(problem.library, torch_moved)(problem)}


#: What a library moves beside its products.
MOVES = ("input", "column", "output")


def wgrad_counts(problem: Problem) -> Counts:
    """Of the gradient of a convolution's kernel: the same work at other prices, which are alike for more of its kinds.
    Of depthwise layers only those of 3 taps have a fast routine in oneDNN.
    """
    geometry, found = problem.geometry, Counts()
    is_short = is_depthwise(geometry) and is_plain(geometry) and max(geometry.window) <= 3 <= geometry.window[-1]
    is_strided = any(axis.stride > 1 for axis in geometry.axes)
    word = "short " * is_short + "strided " * (is_short and is_strided)
    for unit, count in convolution_counts(problem).items():
        last = unit.rpartition(" ")[2]
        own = last if last in MOVES else unit.replace(" 3d", "").replace("depthwise", f"{word}depthwise")
        found[own] = found.get(own, 0.0) + count
    return found


# JAX


def eigen_counts(problem: Problem, kind: str) -> Counts:
    """XLA copies windows, the channels of a tap at once, and multiplies matrices (Eigen's spatial convolution, which
    fills half a vector too); one group after the other.
    """
    geometry, size, groups = problem.geometry, in_floats(problem), problem.geometry.groups
    places = geometry.batch * groups * prod(geometry.out)
    runs, vectors = places * geometry.taps * size, in_vectors(geometry.outputs, VECTOR // 2)
    columns = runs * geometry.inputs
    word = "base dilated " * geometry.is_base_dilated
    copied = {} if geometry.taps == 1 else {f"{word}run": runs, f"{word}{column_kind(geometry.inputs)}": columns}
    edge = min(prod(geometry.x_shape), prod(geometry.y_shape)) * size if is_unpadded_image(geometry) else 0.0
    own = {kind: columns * vectors, f"{word}written": places * vectors * size, "edge": edge}
    return arranged(geometry, size) | copied | own


def arranged(geometry: Geometry, size: float) -> Counts:
    """What XLA does for either routine: x and y are copied to channels last, and a kernel to channels out last."""
    x, y = prod(geometry.x_shape), prod(geometry.y_shape)
    return {
        "call": 1.0,
        "fresh": fresh(size, y) + fresh(size, x + y),
        "group": float(geometry.batch * geometry.groups) if geometry.groups > 1 else 0.0,
        "output": y * size,
        "input": x * size,
        "kernel": prod(geometry.kernel_shape) * size,
    }


#: Channels of a tap that Eigen copies together, if their number is a multiple of it.
PACKED = 4


def column_kind(inputs: int) -> str:
    """Of elements of copied windows."""
    return "odd column" if inputs % PACKED else "column"


#: Products for each element of one channel that XLA spells out in a loop.
SPELLED_OUT = 2


def eigen_kind(geometry: Geometry) -> str:
    """Three axes have a way of their own, and so have elements of a window that don't lie side by side."""
    if geometry.is_base_dilated:
        kind = "base dilated" + " grouped" * (geometry.groups > 1)
    elif geometry.groups == 1 and geometry.terms * geometry.outputs <= SPELLED_OUT:
        kind = "spelled out dense"
    elif geometry.taps == 1:
        kind = pointwise(geometry)
    else:
        kind = "grouped" if geometry.groups > 1 else "dense"
        kind += " dilated" * (not is_plain(geometry))
    return kind + " 3d" * (geometry.ndim > 2)


def is_swapped(geometry: Geometry) -> bool:
    """Whether XLA moves the image over the window, which has more elements: of all axes that it may swap, and one that
    has a single element has as many as the window (``SwapConvOperands`` in XLA's algebraic simplifier).
    """
    axes = [axis for axis in geometry.axes if not is_kept(axis)]
    images = [axis.kernel if axis.size == axis.stride == 1 else axis.size for axis in axes]
    return geometry.groups == 1 and prod([axis.kernel for axis in axes]) > prod(images)


def is_kept(axis: WindowDimension) -> bool:
    """One place of a window as large as the image, or one element of it at each place."""
    if axis.low or axis.high or axis.window_dilation > 1:
        return False
    is_one = axis.kernel == axis.size and axis.stride == axis.base_dilation == 1
    return is_one or (axis.base_dilation == axis.kernel and axis.stride == axis.kernel - 1)


def swapped_counts(problem: Problem) -> Counts:
    """The image goes over the window backwards, which no fast routine does: plain loops over the pairs that meet."""
    geometry, size = problem.geometry, in_floats(problem)
    pairs = prod(geometry.y_shape) * geometry.terms * prod([met(axis) for axis in geometry.axes])
    return arranged(geometry, size) | {"swapped": pairs * size}


def xla_counts(problem: Problem) -> Counts:
    """YNNPACK's where XLA hands images of float32 to it; integers have plain loops."""
    geometry = problem.geometry
    if problem.is_integer:
        kind = "plain grouped" if geometry.groups > 1 else "plain"
        outputs = prod(geometry.y_shape) * in_floats(problem)
        return {"call": 1.0, f"{kind} product": outputs * geometry.terms, f"{kind} output": outputs}
    if is_ynnpack(geometry) and problem.accumulator == "float32":
        return ynnpack_counts(problem)
    if is_swapped(geometry):
        return swapped_counts(problem)
    return eigen_counts(problem, eigen_kind(geometry))


def xla_moved(problem: Problem) -> tuple[str, ...]:
    """Units that all of its ways count (`arranged`)."""
    return "call", "input", "kernel", "output"


def ynnpack_counts(problem: Problem) -> Counts:
    """Products of a row's windows, which are read where they are: those of the busiest thread. Each row that threads
    share is a loop of theirs.
    """
    geometry, size = problem.geometry, in_floats(problem)
    places, share = positions(geometry) * geometry.groups * size, busiest(geometry)
    kind, inputs = "grouped" if geometry.groups > 1 else "dense", fed(geometry)
    terms = geometry.taps * inputs
    return arranged(geometry, size) | {
        f"ynnpack {kind}": places * terms * lanes(geometry) * share,
        "ynnpack run": places * geometry.taps,
        f"ynnpack {column_kind(inputs)}": places * terms,
        "ynnpack output": places * lanes(geometry),
        "ynnpack row": float(geometry.batch * geometry.groups * prod(geometry.out[:-1])) if share < 1 else 0.0,
    }


# NumPy


#: Taps up to which `numpy.convolve` unrolls its sum of floats (``small_correlate`` in NumPy's arraytypes.c.src); for
#: more it calls a scalar product for each output.
SHORT = 11


def numpy_counts(problem: Problem) -> Counts:
    """One signal after the other; an unrolled sum takes numbers one by one, whatever their size."""
    geometry, outputs = problem.geometry, prod(problem.geometry.y_shape)
    is_short = geometry.taps <= SHORT and problem.accumulator in ("float32", "float64")
    size = 1.0 if is_short else in_floats(problem)
    return {
        "call": 1.0,
        "row": float(geometry.batch * geometry.groups * geometry.outputs),
        "output": outputs * size,
        "dot": 0.0 if is_short else float(outputs),
        "short product" if is_short else "product": outputs * geometry.taps * size,
        "padded": padded(geometry, in_floats(problem)),
    }


LIBRARIES: dict[str, Callable[[Problem], Counts]] = {"torch": torch_counts, "jax": xla_counts, "numpy": numpy_counts}

#: Of those that copy arrays to an order of their own: the bytes; and those with the result, where these are so many
#: that the library's own convolution is better called for some images or rows at a time.
SCRATCH: dict[str, Callable[[Problem], int]] = {"torch": torch_scratch}
PIECES: dict[str, Callable[[Problem], int]] = {"torch": torch_pieces}


def scratch(problem: Problem) -> int:
    """Bytes of the copies that a library's own convolution makes, as far as they are known."""
    return SCRATCH[problem.library](problem) if problem.library in SCRATCH else 0


def pieced(problem: Problem) -> int:
    """Bytes of what is better done in pieces, or 0."""
    return PIECES[problem.library](problem) if problem.library in PIECES else 0


#: Of those that convolve several channels.
MOVED: dict[str, Callable[[Problem], tuple[str, ...]]] = {"torch": torch_moved, "jax": xla_moved}
