"""Which library owns an array, and what that library does its own way. The sole importer of array-api-compat."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib import import_module
from operator import add
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import primitives
from .geometry import WindowDimension
from .layout import Layout
from .program import ITEM_SIZES, Problem, Program

Array = Any
Execute = Callable[[Program, "Backend", Array, Array], Array]
Run = Callable[[Program, Array, Array], Array]

#: From x, kernel and, where there is one, bias to y.
Steps = Callable[..., Array]


class Native(NamedTuple):
    """A library's own convolution of canonical arrays: why it can't serve (None: it can), its arguments, the call;
    whether it has layers, of several channels in; and how many channels out it computes at the cost of one.
    """

    unsupported: Callable[[Problem], str | None]
    prepare: Callable[[Problem], Any]
    execute: Callable[[Any, Array, Array], Array]
    has_layers: bool = True
    vector: Callable[[Problem], int] = lambda problem: 1


class Workers(Protocol):
    """``each(function, items, most)`` calls a function of every item, up to ``count`` of them at once, or ``most``."""

    count: int

    def each(self, function: Callable[[Any], None], items: Sequence[Any], most: int) -> None: ...


class Planning(NamedTuple):
    """What the planner lends to a backend that closes a planned call under differentiation: the run of a program, one
    for a derived geometry; the seconds of a program, whose kernel may be followed, and of the gradients of x and of the
    kernel of the library's own convolution.
    """

    execute: Execute
    replan: Callable[..., Program]
    seconds: Callable[[Program, Backend, bool], float]
    dgrad_seconds: Callable[[Problem, Backend], float]
    wgrad_seconds: Callable[[Problem, Backend], float]


def _plain_pad(xp: Any) -> Callable[..., Array]:
    return lambda x, widths: primitives.pad_zero(xp, x, widths)


def _same(array: Array) -> Array:
    return array


def _call(function: Callable[..., Any], *key: Any) -> Any:
    return function(*key)


def _whole(backend: Backend, function: Callable[..., Array], axes: Sequence[WindowDimension], *arrays: Array) -> Array:
    return function(backend, axes, *arrays)


def _total(function: Callable[..., Array], what: Any, backend: Backend, axes: Any, x: Array, y: Array) -> Array:
    return function(what, backend, axes, x, y)


def _never(*_: Any) -> bool:
    return False


@dataclass(frozen=True, eq=False, repr=False)
class Backend:
    """One library: its array API namespace, and the few things that it does better or differently.

    A field that is left out has the meaning of the array API standard. Of the others:

    - ``close`` wraps the run of a program where a library needs it under differentiation or in pieces;
    - ``close_taps`` wraps `correlate_taps` likewise, where its permuted arrays would cost more than the call;
    - ``signature`` is all that a plan may depend on of an array of its ``types``, hashable; without it, or while
      ``is_compiling`` (a compiler traces Python), each call reads its arrays anew;
    - ``fold`` calls a planning function with plain values: a compiler that traces Python must not look inside;
    - ``recompute`` calls a function of arrays so that a recorded gradient keeps its arguments only;
    - ``forward(x, lengths)`` is the Fourier transform of the last axes, and ``inverse`` of a spectrum of which the
      caller lets go (`primitives.py`);
    - ``sum_slices(x, sources, weights)`` adds ``x[source] * weight`` over sources that differ in their starts alone and
      the rows of ``weights``, in ``passes(len(sources))`` loops over the result; without it, all products are spelled
      out;
    - ``sum_view(array, sizes, steps, count, out)``: the sums over the first ``count`` axes of a view of an array, of
      these sizes and steps in elements, are written to ``out``, in one pass;
    - ``sum_each(parts, kernel, axes)`` sums the products of each part with the kernel over some axes, which are not the
      fifth, without ever holding all of them;
    - ``has_double`` says whether a device of a kind computes in float64, and ``in_double(function, *arrays)`` is
      ``function(*arrays)`` where `dtype` knows it too;
    - ``sweep(function, x, shape, size, places)`` is a result of this shape and x's type, made in one loop: a place is
      two corners, and ``function`` of the piece of this size at the first of them, zeros around x, lies at the second;
    - ``each_part(function, x, count)`` is ``function(x)``, or of ``count`` images after others where that is faster;
    - ``add_up(function, arrays, sizes, corners)`` is the sum of ``function`` of pieces of arrays, zeros around them,
      which have these sizes and begin at the corners, one an array, one step after the other;
    - ``stacks_columns``: a compiler makes columns from slices, and loops over images (`algorithms/gemm_stacks.py`);
    - ``hold`` gives an array that a compiler computes as it stands, without simplifying what is made of it;
    - ``settle`` gives one that it computes in a loop of its own, and not again wherever an element is read;
    - ``opaque`` gives one that it fuses with what reads it, but by loops of its own only;
    - ``empty`` makes a buffer that may be written, by ``out=`` of `matmul` too;
    - ``unless_finite(compute, otherwise, x)`` is ``compute(x)`` where all of it is finite, else ``otherwise(x)``; where
      looking at values is not allowed or not cheap, it is ``otherwise(x)``;
    - ``if_finite(compute, otherwise, *arrays)`` is ``compute(*arrays)`` where all of the arrays are finite, else
      ``otherwise(*arrays)``, which it may be anyway; what is not finite in what was read of them shows
      in ``shown`` of the result of ``compute``, if that is given, which may be looked at in their place;
    - ``workers`` run the tiles of an algorithm that leaves cores idle in the library's own loops, ``multipliers``
      those of matrix products, each of which they keep to one core;
    - ``short_lines``: the library's Fourier transforms of many short lines are better than a long one, since they
      run on all cores (PyTorch) or share a table of factors that is made for each call (NumPy);
    - ``copies_blocks``: a copy loops over two axes at once, and takes time for each such block (ATen's TensorIterator);
    - ``cache``: bytes of temporaries that stay in the cache, where the library does not tile its own loops;
    - ``take_rows(table, index)`` is ``table[index]`` for indices that are within the table;
    - ``sample(otherwise, lattice, places, table, offset, *mask)`` is ``otherwise(table, offset, *mask)``, the samples
      of a table's rows (`lattice.py`, `operations/sampling.py`), or a faster way to them;
    - ``is_writable(x)``: whether new arrays beside x may be written, and views of them, since nothing follows x, by
      ``out=`` of `sum_products` too; ``make(x, shape, dtype)`` gives one;
    - ``max_windows(fold, axes, x)`` are the maxima of windows over x's last axes: ``fold(larger)`` by an elementwise
      maximum that is NaN where either is, or ``fold(None)`` where something follows x;
    - ``add_to(y, bias)`` is their sum, in the memory of y, of which the caller lets go;
    - ``col2im``: the library's own products of all elements and taps, which it adds up where they fall;
    - ``whole(planning, backend, program, layout, otherwise)`` is a function of a program's x, a kernel before this
      layout, and a bias, if any: the same as ``otherwise``, by the library's own convolution where that takes all of
      them at once and is what runs, or None;
    - ``laying(problem, layout)``: seconds for a kernel in this layout, which ``whole`` takes before it, or 0;
    - ``detours(problem)``: whether the library's own convolution takes another routine for a dilated x;
    - ``keep(function, *key)`` is ``function(*key)``, a value of plain ones, which a library may keep for the next call;
    - ``scatter_add`` adds rows, by their indices, to the rows of a total that it may overwrite;
    - ``scalar_on`` makes a zero on a device of a kind (`device_kind`);
    - ``peek`` shows the values of an array that is no more than values: None for one that is traced, or recorded for a
      gradient; libraries without one never show any;
    - ``view`` shows the values of an array in the CPU's memory, or None where these are elsewhere, or followed;
    - ``wait`` returns once an array is computed, and raises TypeError for one that stands for others;
    - ``sum_windows`` gives ``function(what, backend, axes, x, y)``, the ``what.size(axes)`` numbers that a set of
      outputs y and their windows of x add up to; ``what`` is a value that hashes;
    - ``replicated`` calls a function of arrays, whose results belong on every device that holds these;
    - ``local`` brings arrays into memory, lazy ones together, and ``constant`` cuts them off from differentiation;
    - ``compiled(function, known, arrays)`` is ``function(known, arrays)``, compiled once for a function and what is
      ``known``, which hash, and arrays of these shapes; None where the library has no compiler that is at hand;
    - ``register`` makes a dataclass a container that transformations see into, given the names of its fields that are
      arrays, and of the others.
    """

    name: str
    xp: Any
    owns: Callable[[Any], bool]
    from_numpy: Callable[[np.ndarray[Any, Any], Array], Array]
    to_numpy: Callable[[Array], np.ndarray[Any, Any]]
    device: Callable[[Array], Any] = lambda array: None
    device_kind: Callable[[Array], str] = lambda array: "cpu"
    dtype: Callable[[str], Any] = lambda name: None
    promote: Callable[[Array, Array], Any] = lambda a, b: None
    cast: Callable[[Array, Any], Array] = lambda array, dtype: array
    admit: Callable[[Array], Array] = _same
    copy: Callable[[Array], Array] = _same
    pad: Callable[..., Array] = lambda x, widths: x
    windows: Callable[..., Array] = lambda x, window, stride, dilation: x
    band: Callable[[Array, int, int, int, int], Array] = lambda kernel, place, block, stride, dilation: kernel
    pad_runs: Callable[..., Array] = lambda x, runs, value=0: x
    pad_runs_transpose: Callable[..., Array] = lambda dy, runs, sizes: dy
    matmul: Callable[..., Array] = lambda a, b: a
    forward: Callable[[Array, Sequence[int]], Array] = lambda x, lengths: x
    inverse: Callable[..., Array] = lambda spectrum, lengths, results, is_complex: spectrum
    has_double: Callable[[str], bool] = _never
    in_double: Callable[..., Array] = _call
    sweep: Callable[..., Array] | None = None
    each_part: Callable[[Callable[[Array], Array], Array, int], Array] = lambda function, x, count: function(x)
    add_up: Callable[..., Array] | None = None
    stacks_columns: bool = False
    hold: Callable[[Array], Array] = _same
    settle: Callable[[Array], Array] = _same
    opaque: Callable[[Array], Array] = _same
    sum_products: Callable[..., Array] = primitives.sum_products
    sum_slices: Callable[[Array, Sequence[tuple[Any, ...]], Array], Array] | None = None
    passes: Callable[[int], int] = lambda count: 1
    sum_view: Callable[[Array, Sequence[int], Sequence[int], int, Array], object] | None = None
    sum_each: Callable[[Sequence[Array], Array, Sequence[int]], list[Array]] | None = None
    take_rows: Callable[[Array, Array], Array] = lambda table, index: table
    sample: Callable[..., Array] = lambda otherwise, lattice, places, *arrays: otherwise(*arrays)
    is_writable: Callable[[Array], bool] = _never
    make: Callable[[Array, Sequence[int], Any], Array] = lambda x, shape, dtype: x
    max_windows: Callable[..., Array] = lambda fold, axes, x: fold(None)
    add_to: Callable[[Array, Array], Array] = add
    whole: Callable[[Planning, Backend, Program, Layout, Steps], Steps | None] | None = None
    laying: Callable[[Problem, Layout], float] | None = None
    keep: Callable[..., Any] = _call
    empty: Callable[..., Array] | None = None
    close: Callable[[Backend, Planning], Run] | None = None
    close_taps: Callable[[Backend, Planning], Run] | None = None
    native: Native | None = None
    wgrad: Native | None = None
    col2im: Native | None = None
    detours: Callable[[Problem], bool] = _never
    types: tuple[type, ...] = ()
    accumulators: dict[str, str] = field(default_factory=dict)
    most_slices: int = 4096
    map_windows: Callable[..., Array] = _whole
    pull_windows: Callable[..., Array] = _whole
    sum_windows: Callable[..., Array] = _total
    signature: Callable[[Array], Hashable] | None = None
    is_compiling: Callable[[], bool] = _never
    fold: Callable[..., Any] = _call
    recompute: Callable[..., Array] = _call
    unless_finite: Callable[..., Array] = lambda compute, otherwise, x: otherwise(x)
    if_finite: Callable[..., Any] = lambda compute, otherwise, *arrays, shown=None: otherwise(*arrays)
    cache: int | None = None
    workers: Workers | None = None
    multipliers: Workers | None = None
    short_lines: bool = False
    copies_blocks: bool = False
    is_traced: Callable[[Array], bool] = _never
    detach: Callable[[Array], Array] = _same
    constant: Callable[[Array], Array] = _same
    replicated: Callable[..., Any] = _call
    local: Callable[[Sequence[Array]], Sequence[Array]] = _same
    register: Callable[[type, tuple[str, ...], tuple[str, ...]], None] = lambda cls, arrays, others: None
    scan: Callable[..., Any] | None = None
    compiled: Callable[..., Any] | None = None
    scatter_add: Callable[[Array, Array, Array], Array] | None = None
    scalar_on: Callable[[str], Array] = _same
    peek: Callable[[Array], np.ndarray[Any, Any] | None] | None = None
    view: Callable[[Array], np.ndarray[Any, Any] | None] = lambda array: None
    wait: Callable[[Array], Any] = _same

    @cached_property  # NumPy takes two microseconds to say no
    def has_blocks(self) -> bool:
        """Whether arrays come in chunks that only their library's own ``map_blocks`` reaches."""
        return hasattr(self.xp, "map_blocks")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name, since there is one backend a library, of functions and modules."""
        return library_backend, (self.name,)


def standard_backend(name: str, xp: Any, **own: Any) -> Backend:
    """A backend of the array API standard, with ``own`` fields in place of the standard's."""

    def take_rows(table: Array, index: Array) -> Array:
        return xp.take(table, index, axis=0)

    fields: dict[str, Any] = {
        "from_numpy": lambda array, like: xp.asarray(array, device=like.device),
        "to_numpy": np.asarray,
        "dtype": lambda dtype: getattr(xp, dtype, None),
        "promote": lambda a, b: xp.result_type(a.dtype, b.dtype),
        "cast": lambda array, dtype: xp.astype(array, dtype, copy=False),
        "copy": lambda array: xp.asarray(array, copy=True),
        "has_double": lambda device: hasattr(xp, "float64"),
        "pad": _plain_pad(xp),
        "make": lambda x, shape, dtype: xp.empty(shape, dtype=dtype, **primitives.placement(x)),
        "windows": lambda x, window, stride, dilation: primitives.windows(xp, x, window, stride, dilation),
        "band": partial(primitives.band, xp),
        "pad_runs": lambda x, runs, value=0: primitives.pad_runs(xp, x, runs, value),
        "pad_runs_transpose": lambda dy, runs, sizes: primitives.pad_runs_transpose(xp, dy, runs, sizes),
        "matmul": xp.matmul,
        "forward": partial(primitives.forward, xp),
        "inverse": partial(primitives.inverse, xp),
        "take_rows": take_rows,
        "scalar_on": lambda kind: xp.zeros(()),
    }
    backend = Backend(name, xp, **(fields | own))
    for served in ITEM_SIZES:  # named now: a graph compiler can't follow a dict that grows while it traces
        dtype_name(backend.dtype(served))
    return backend


class Row(NamedTuple):
    """A line of `BACKENDS`: the library's module, and the module here that knows it (its ``BACKEND``)."""

    library: str
    module: str


#: Libraries with a file of their own. Any other array that follows the standard is served by `backends/standard.py`.
BACKENDS: dict[str, Row] = {
    "numpy": Row("numpy", "arrayconv.backends.numpy"),
    "torch": Row("torch", "arrayconv.backends.torch"),
    "jax": Row("jax", "arrayconv.backends.jax"),
    "dask": Row("dask.array", "arrayconv.backends.dask"),
}

_BY_TYPE: dict[type, Backend] = {}


def meet_imported() -> None:
    """The backends of libraries that are imported already, known by the types of their arrays from the first call on.

    A graph compiler can't trace an import, so its first call must find the backend there.
    """
    for name, row in BACKENDS.items():
        if sys.modules.get(row.library) is not None:
            backend = library_backend(name)
            _BY_TYPE.update(dict.fromkeys(backend.types, backend))


def namespace(library: str) -> Any:
    """array-api-compat's namespace of a library that it wraps."""
    return import_module(f"array_api_compat.{library}")


def library_backend(name: str) -> Backend:
    """The backend of a library by name, imported if need be; any name that is no row is a module of the standard."""
    if name in BACKENDS:
        backend: Backend = import_module(BACKENDS[name].module).BACKEND
        return backend
    standard: Callable[[Any], Backend] = import_module("arrayconv.backends.standard").backend_of
    return standard(import_module(name))


@cache
def installed_libraries() -> tuple[str, ...]:
    """Names of the libraries that can be imported here; NumPy is the first."""
    from importlib.util import find_spec

    names = (*BACKENDS, "array_api_strict")
    return tuple(name for name in names if find_spec(name) is not None)


def get_backend(array: Any) -> Backend:
    """The backend that owns ``array``; only libraries that are already imported are asked."""
    backend = _BY_TYPE.get(type(array))
    return backend if backend is not None else _find_backend(array)


def _find_backend(array: Any) -> Backend:
    for name, row in BACKENDS.items():
        if sys.modules.get(row.library) is not None:
            backend = library_backend(name)
            if backend.owns(array):
                _BY_TYPE[type(array)] = backend
                return backend
    if hasattr(array, "__array_namespace__") and not isinstance(array, np.ndarray | np.generic):
        standard: Callable[[Any], Backend] = import_module("arrayconv.backends.standard").backend_of
        _BY_TYPE[type(array)] = standard(array.__array_namespace__())
        return _BY_TYPE[type(array)]
    raise TypeError(f"{type(array).__name__} is no array that arrayconv serves: {describe(array)}")


def describe(array: Any) -> str:
    text = repr(array)
    return text if len(text) <= 60 else text[:57] + "..."


_NAMES: dict[tuple[type, Any], str] = {}


def dtype_name(dtype: Any) -> str:
    """``float32`` for any library's float32."""
    key = (type(dtype), dtype)  # libraries warn when their dtypes are compared with another's
    name = _NAMES.get(key)
    if name is None:
        if isinstance(dtype, type):
            dtype = np.dtype(dtype)
        name = _NAMES[key] = str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]
    return name


def sign_arrays(x: Array, kernel: Array, bias: Array | None) -> tuple[Backend, Hashable] | None:
    """The backend that knows these arrays by type, and their signatures, if these say all that a plan depends on."""
    backend = _BY_TYPE.get(type(x))
    if backend is None or backend.signature is None or _BY_TYPE.get(type(kernel)) is not backend:
        return None
    if (bias is not None and _BY_TYPE.get(type(bias)) is not backend) or backend.is_compiling():
        return None
    sign = backend.signature
    return backend, (sign(x), sign(kernel)) if bias is None else (sign(x), sign(kernel), sign(bias))
