"""The life of every linear call: options read once into a cached `LinearCall`, which then only moves arrays.

Data flows one way: arguments, geometry, program, arrays; `LinearCall.pull` walks back over the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from math import prod
from operator import is_
from typing import Any, NamedTuple

from ..algorithms import prepare_all
from ..arguments import Pairs, is_sequence, read_int, read_padding, read_per_axis, read_word, resolve
from ..backend import Backend, Steps, dtype_name, library_backend, sign_arrays
from ..boundary import BOUNDARIES, Run, check_depth, runs
from ..gather import gather_arrays
from ..geometry import Geometry, WindowDimension, dilated
from ..layout import Layout
from ..planner import ACCUMULATORS, algorithms, current_settings, derive, make_problem, make_program
from ..program import ITEM_SIZES, Settings
from .call import LinearCall

Array = Any


class Options(NamedTuple):
    """The keyword options of a linear call as plain hashable values, not yet checked against shapes."""

    stride: Any = 1
    padding: Any = "valid"
    dilation: Any = 1
    boundary: str = "constant"
    algorithm: str = "auto"
    groups: Any = 1
    channels: str = "first"
    axes: Any = None
    output_padding: Any = 0
    factor: Any = None


#: The options that are words.
WORDS = {"boundary": tuple(BOUNDARIES), "channels": ("first", "last"), "algorithm": ("auto", *algorithms())}


def freeze(op: str, name: str, value: Any) -> Any:
    """Ints, words and nested tuples of them, hashable; bools and floats, which equal ints, are refused here."""
    if type(value) is int or value is None or isinstance(value, str):
        return value
    if type(value) in (tuple, list) or is_sequence(value):
        entries = enumerate(value)
        return tuple([n if type(n) is int else freeze(op, f"{name}[{i}]", n) for i, n in entries])
    return read_int(op, name, value)


#: Layouts of x, kernel and y, a boundary's padding, and the geometry that is left.
Reading = tuple[Layout, Layout, Layout, tuple[tuple[Run, ...], ...] | None, Geometry]
Read = Callable[[str, tuple[int, ...], tuple[int, ...], Options], Reading]


class Known(NamedTuple):
    """A planned call, its backend, and its steps, which take the arrays."""

    call: LinearCall
    backend: Backend
    steps: Steps


#: Planned calls by all that they were planned from. An entry was checked when it was made, and its arrays needed no
#: conversion, so that a call that finds one has nothing left to look at.
_CALLS: dict[Any, Known] = {}
_MOST_CALLS = 4096


def call_linear(
    read: Read, op: str, x: Array, kernel: Array, bias: Array | None, dtype: Any, options: Options
) -> Array:
    """A linear operation, from its arguments to its result."""
    known, (x, kernel, bias) = known_call(read, op, x, kernel, bias, dtype, options)
    return known.steps(x, kernel) if bias is None else known.steps(x, kernel, bias)


def known_call(
    read: Read,
    op: str,
    x: Array,
    kernel: Array,
    bias: Array | None,
    dtype: Any,
    options: Options,
    *,
    transposed: bool = False,
) -> tuple[Known, Sequence[Array]]:
    """The plan that serves arrays like these, and the arrays gathered: one cached look-up.

    What `read_call` finds is kept where the signatures of the arrays say all, and it took them as they are.
    """
    signed, key, arrays = sign_arrays(x, kernel, bias), None, (x, kernel, bias)
    if signed is not None:
        key = (read, op, signed, dtype, options, transposed, current_settings())
        try:
            known = _CALLS.get(key)
        except TypeError:  # an option or a dtype that is unhashable, which `read_call` refuses
            key = known = None
        if known is not None:
            return known, arrays
    call, backend, gathered = read_call(read, op, x, kernel, bias, dtype, options, transposed)
    if key is None or not all(map(is_, gathered, arrays)):
        return Known(call, backend, partial(call.run, backend)), gathered
    if len(_CALLS) >= _MOST_CALLS:
        _CALLS.clear()
    known = _CALLS[key] = Known(call, backend, call.bind(backend, *gathered))
    return known, gathered


def read_call(
    read: Read,
    op: str,
    x: Array,
    kernel: Array,
    bias: Array | None,
    dtype: Any,
    options: Options,
    transposed: bool,
) -> tuple[LinearCall, Backend, list[Array]]:
    """`known_call` where nothing is known of the arrays: all are checked, and NumPy's constants are adopted."""
    if bias is None:
        backend, arrays = gather_arrays(op, ("x", "kernel"), (x, kernel))
        arrays.append(None)
        bias_shape = bias_dtype = None
    else:
        backend, arrays = gather_arrays(op, ("x", "kernel", "bias"), (x, kernel, bias))
        bias_shape, bias_dtype = tuple(arrays[2].shape), arrays[2].dtype
    x, kernel, _ = arrays
    for name, words in WORDS.items():
        if type(getattr(options, name)) is not str:  # it may be unhashable
            read_word(op, name, getattr(options, name), words)
    is_wish = dtype is not None
    if is_wish and not isinstance(dtype, Hashable):
        raise TypeError(f"{op}: dtype={dtype!r} is not one of {', '.join(ITEM_SIZES)}")
    call = backend.fold(
        find_ready_call if backend.is_compiling() else find_call,
        read,
        op,
        backend.name,
        backend.device_kind(x),
        tuple(x.shape),
        x.dtype,
        tuple(kernel.shape),
        kernel.dtype,
        bias_shape,
        bias_dtype,
        dtype if is_wish else promote(op, backend, x, kernel),
        is_wish,
        transposed,
        *options,
    )
    return call, backend, arrays


def find_call(*key: Any) -> LinearCall:
    """The cached plan, under the settings in force."""
    return plan_call(current_settings(), *key)


def find_ready_call(*key: Any) -> LinearCall:
    """The same for a compiler that traces Python, which could neither derive nor keep what a first run does."""
    call = find_call(*key)
    for program in (call.program, *(call.transposed or ())):
        prepare_all(program, library_backend(program.problem.library))
    return call


def promote(op: str, backend: Backend, x: Array, kernel: Array) -> Any:
    """The library's own result type."""
    try:
        return backend.promote(x, kernel)
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{op}: {backend.name} has no common type of x ({dtype_name(x.dtype)}) and kernel "
            f"({dtype_name(kernel.dtype)}); cast one of them"
        ) from error


@lru_cache(maxsize=4096)
def plan_call(
    chosen: Settings,
    read: Read,
    op: str,
    library: str,
    device: str,
    x_shape: tuple[int, ...],
    x_dtype: Any,
    kernel_shape: tuple[int, ...],
    kernel_dtype: Any,
    bias_shape: tuple[int, ...] | None,
    bias_dtype: Any,
    dtype: Any,
    is_wish: bool,
    transposed: bool,
    *given: Any,
) -> LinearCall:
    """Options, shapes and dtypes checked, and the programs made."""
    options, backend = Options(*given), library_backend(library)
    result = read_dtype(op, dtype, backend, [("x", x_dtype), ("kernel", kernel_dtype)]) if is_wish else dtype
    if bias_shape is not None:
        read_dtype(op, result, backend, [("bias", bias_dtype)])
    for option, words in WORDS.items():
        read_word(op, option, getattr(options, option), words)
    x_layout, kernel_layout, y_layout, pieces, geometry = read(op, x_shape, kernel_shape, options)
    check_sizes(op, geometry, x_shape, kernel_shape, options)
    count = geometry.groups * geometry.outputs
    if bias_shape not in (None, (count,)):
        raise ValueError(f"{op}: bias must have shape ({count},), one number an output channel, got {bias_shape}")
    name = dtype_name(result)
    compute = backend.accumulators.get(name, name)
    if bias_shape is not None:  # the bias is part of the sum, so it is added before the one rounding
        compute = ACCUMULATORS.get(compute, compute)
    problem = make_problem(geometry, compute, backend, device, chosen)
    laid = 0.0 if backend.laying is None else backend.laying(problem, kernel_layout)
    program = make_program(problem, backend, options.algorithm, op, laid)
    back = None
    if transposed:
        back = (derive(program, geometry.input_transpose()), derive(program, geometry.kernel_transpose()))
    return LinearCall(
        op,
        x_layout,
        kernel_layout,
        y_layout,
        pieces,
        result,
        backend.dtype(compute),
        program,
        back,
        laid,
    )


#: Elements that no array has: their number is a signed integer of 64 bits in every library.
TOO_MANY = 2**63


def check_sizes(
    op: str, geometry: Geometry, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], options: Options
) -> None:
    """Refuses a result, or a padded x, of more elements than an array can have."""
    channels = geometry.groups * geometry.inputs
    padded = (geometry.batch, channels, *[axis.padded for axis in geometry.axes])
    for name, shape in (("padded x", padded), ("result", geometry.y_shape)):
        if prod(shape) >= TOO_MANY:
            raise ValueError(
                f"{op}: padding={options.padding!r} and the other options give a {name} of {prod(shape)} elements "
                f"{shape}, an array has fewer than 2**63 (x: {x_shape}, kernel: {kernel_shape}); pad less"
            )


#: What a type can be turned into without losing its nature: integers to anything, floats not to integers.
RANK = {"int": 0, "uint": 0, "float": 1, "bfloat": 1, "complex": 2}


def read_dtype(op: str, dtype: Any, backend: Backend, sources: list[tuple[str, Any]]) -> Any:
    """``dtype=``, a name or any library's dtype object, as the backend's dtype."""
    name = dtype if isinstance(dtype, str) else dtype_name(dtype)
    if name not in ITEM_SIZES:
        raise TypeError(f"{op}: dtype={dtype!r} is not one of {', '.join(ITEM_SIZES)}")
    found = backend.dtype(name)
    if found is None:
        raise ValueError(
            f"{op}: dtype={name!r} is not a type that {backend.name} has here; enable 64-bit types in the library "
            f"(jax_enable_x64) or take a smaller one"
        )
    for source, own in sources:
        if RANK[dtype_name(own).rstrip("0123456789")] > RANK[name.rstrip("0123456789")]:
            raise TypeError(f"{op}: {name} can't hold {source} of {dtype_name(own)} without losing part of it; cast it")
    return found


def window_axes(
    op: str, sizes: tuple[int, ...], window: tuple[int, ...], options: Options
) -> tuple[tuple[tuple[Run, ...], ...] | None, tuple[WindowDimension, ...]]:
    """Stride, padding, dilation and boundary as spatial axes, and a boundary's padding apart from them."""
    ndim = len(window)
    if 0 in window:
        raise ValueError(f"{op}: kernel has spatial shape {window}; every axis needs at least one tap")
    stride = read_per_axis(op, "stride", options.stride, ndim, 1)
    dilation = read_per_axis(op, "dilation", options.dilation, ndim, 1)
    covered = tuple(map(dilated, window, dilation))
    widths = resolve(read_padding(op, options.padding, ndim), sizes, covered, stride)
    for i, (n, (low, high), k) in enumerate(zip(sizes, widths, covered, strict=True)):
        if n + low + high < k:
            raise ValueError(
                f"{op}: kernel covers {k} elements along spatial axis {i} ({window[i]} taps, dilation {dilation[i]}), "
                f"longer than the padded input of {n + low + high} (size {n}, padding {(low, high)}); "
                f"pad more or take a smaller kernel"
            )
    pieces = boundary_pieces(op, options.boundary, options.padding, sizes, widths)
    if pieces is not None:
        sizes = tuple(n + low + high for n, (low, high) in zip(sizes, widths, strict=True))
        widths = ((0, 0),) * ndim
    axes = zip(sizes, window, stride, widths, dilation, strict=True)
    return pieces, tuple([WindowDimension(n, k, s, low, high, d) for n, k, s, (low, high), d in axes])


def boundary_pieces(
    op: str, boundary: str, padding: Any, sizes: tuple[int, ...], widths: Pairs
) -> tuple[tuple[Run, ...], ...] | None:
    """The runs of a boundary other than zero; None where the program pads by itself."""
    if boundary == "constant":
        return None
    if padding == "valid":
        raise ValueError(
            f"{op}: boundary={boundary!r} has no effect with padding='valid'; give a padding such as 'same', "
            f"or leave the boundary out"
        )
    for i, (n, pair) in enumerate(zip(sizes, widths, strict=True)):
        if n == 0 and max(pair) > 0:
            raise ValueError(f"{op}: boundary={boundary!r} can't pad spatial axis {i} of size 0; use 'constant'")
        check_depth(op, boundary, n, *pair)
    if all(low <= 0 and high <= 0 for low, high in widths):
        return None
    return tuple(runs(boundary, n, low, high) for n, (low, high) in zip(sizes, widths, strict=True))
