"""The table in README.md of what each library can do, found by doing it.

``python -m arrayconv.testing.capabilities`` prints it, ``--write README.md`` puts it between the markers of that file.
A new operation needs a row in `EXAMPLES`. The libraries of `LIBRARIES` must be installed.
"""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from ..backend import get_backend, library_backend
from ..operations.correlate import correlate
from ..operations.table import OPERATIONS
from ..operations.vjp import vjp
from ..program import ITEM_SIZES
from .bound import assert_within_bound
from .oracle import OPERATIONS as ORACLE
from .oracle import reference

Array = Any
Arrays = tuple[Array, ...]
Function = Callable[..., Any]

BEGIN, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"


class Example:
    """Arguments of one call: shapes of the arrays, in order, and options; an option may be a shape by ``arrays``."""

    def __init__(self, *shapes: tuple[int, ...], **options: Any) -> None:
        self.shapes, self.options = shapes, options


#: One small call for each row of `OPERATIONS`.
EXAMPLES = {
    "pad": Example((3, 4), widths=((2, 1), (-1, 5)), boundary="reflect"),
    "windows": Example((2, 6, 5), window=(3, 2), stride=2),
    "corr2d": Example((4, 5), (2, 3)),
    "correlate": Example((2, 6, 5), (3, 2), stride=2, padding="same"),
    "convolve": Example((2, 6, 5), (3, 2), padding="full", boundary="wrap"),
    "conv": Example((2, 4, 6, 5), (6, 2, 3, 2), (6,), stride=2, padding="same", groups=2),
    "conv_transpose": Example((2, 4, 3, 3), (4, 3, 3, 2), (6,), stride=2, groups=2),
    "depthwise_conv": Example((2, 3, 6, 5), (3, 2, 3, 2), (6,), dilation=2),
    "separable_conv": Example((2, 3, 6, 5), (3, 2, 3, 2), (4, 6), (4,), padding="same"),
    "deform_conv": Example((2, 4, 5, 4), (2, 8, 4, 3), (3, 4, 2, 2), (3,)),
    "unfold": Example((2, 3, 6, 5), window=(3, 2), stride=2),
    "fold": Example((2, 18, 8), spatial_shape=(6, 5), window=(3, 2), stride=(2, 1), padding=((0, 0), (0, 0))),
    "pixel_shuffle": Example((2, 12, 3, 2), factor=2),
    "pixel_unshuffle": Example((2, 3, 6, 4), factor=2),
    "subpixel_conv": Example((2, 3, 4, 3), (8, 3, 3, 3), (8,), factor=2, padding="same"),
    "icnr": Example((2, 3, 3, 3), factor=2),
    "max_pool": Example((2, 3, 6, 5), window=(3, 2), stride=2, padding="same"),
    "avg_pool": Example((2, 3, 6, 5), window=(3, 2), stride=2, padding="same"),
    "lp_pool": Example((2, 3, 6, 5), window=(3, 2), stride=2),
}


class Lacking(Exception):
    """A library has no such thing; the text says so and what to call instead."""


@dataclass(frozen=True)
class Library:
    """A column: ``make`` gives its arrays, the others are its own transformations, None where it has none.

    ``hessian(loss, arrays, tangents)`` is the product of the loss' second derivative and the tangents.
    """

    name: str
    title: str
    make: Function
    compile: Function | None = None
    vmap: Function | None = None
    hessian: Function | None = None
    lacks: str = ""
    letters: Mapping[str, str] = field(default_factory=dict)


def _dask_array(array: Array) -> Array:
    """Two uneven chunks along every axis that has three elements."""
    chunks = tuple((n // 3, n - n // 3) if n >= 3 else (n,) for n in array.shape)
    return import_module("dask.array").from_array(array, chunks=chunks)


def _lazy(function: Function) -> Function:
    """``function`` on Dask arrays, in which nothing may be computed."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computes while the graph is built")

    def build(*arrays: Array) -> Any:
        with import_module("dask").config.set(scheduler=refuse):
            return function(*arrays)

    return build


def _torch_compile(function: Function) -> Function:
    torch = import_module("torch")
    torch.compiler.reset()
    compiled: Function = torch.compile(function, fullgraph=True, backend="eager")
    return compiled


def _torch_hessian(loss: Function, arrays: Arrays, tangents: Arrays) -> Any:
    """Double backward."""
    grad = import_module("torch").autograd.grad
    arrays = tuple(array.requires_grad_() for array in arrays)
    return grad(grad(loss(*arrays), arrays, create_graph=True), arrays, tangents)


def _jax_hessian(loss: Function, arrays: Arrays, tangents: Arrays) -> Any:
    """Forward over reverse, in one compilation."""
    jax = import_module("jax")
    gradient = jax.grad(loss, tuple(range(len(arrays))))
    return jax.jit(lambda *tangents: jax.jvp(gradient, arrays, tangents)[1])(*tangents)


LIBRARIES = (
    Library(
        "numpy",
        "NumPy",
        np.asarray,
        lacks="NumPy has no compiler, `vmap` or derivatives of its own: call as it is, batch along the leading axes, "
        "take first derivatives from `arrayconv.vjp` and second ones from JAX or PyTorch.",
    ),
    Library(
        "torch",
        "PyTorch",
        lambda array: import_module("torch").tensor(array),
        _torch_compile,
        lambda function: import_module("torch").func.vmap(function),
        _torch_hessian,
    ),
    Library(
        "jax",
        "JAX",
        lambda array: import_module("jax.numpy").asarray(array),
        lambda function: import_module("jax").jit(function),
        lambda function: import_module("jax").jit(import_module("jax").vmap(function)),
        _jax_hessian,
    ),
    Library(
        "dask",
        "Dask",
        _dask_array,
        _lazy,
        letters={"J": "L"},
        lacks="Dask has no `vmap` or derivatives of its own: batch along the leading axes, take first derivatives from "
        "`arrayconv.vjp` and second ones from JAX or PyTorch.",
    ),
    Library(
        "array_api_strict",
        "array-api-strict",
        lambda array: import_module("array_api_strict").asarray(array),
        lacks="The array API standard has no compiler, `vmap` or derivatives: as for NumPy.",
    ),
)

STEP = 1e-5  # of central differences: their error is about STEP**2 and eps / STEP


@dataclass(frozen=True)
class Case:
    """A row's call with random arrays, and what it must give: by NumPy, the oracle and central differences."""

    op: str
    seed: int = 0

    @property
    def example(self) -> Example:
        if self.op not in EXAMPLES:
            raise LookupError(f"{self.op} has no example; give it a row in EXAMPLES of {__name__}")
        return EXAMPLES[self.op]

    @cached_property
    def arrays(self) -> Arrays:
        return self._draw(*self.example.shapes)

    @cached_property
    def tangents(self) -> Arrays:
        return self._draw(*self.example.shapes, kind=1)

    @cached_property
    def cotangent(self) -> Array:
        return self._draw(self.y.shape, kind=2)[0]

    def _draw(self, *shapes: tuple[int, ...], kind: int = 0) -> Arrays:
        random = np.random.default_rng((self.seed, kind))
        return tuple(random.standard_normal(shape) for shape in shapes)

    def call(self, *arrays: Array) -> Array:
        return OPERATIONS[self.op].function(*arrays, **self.example.options)

    def pull(self, *arrays: Array) -> Arrays:
        """The cotangents of all arrays but the last, which is the cotangent of the result."""
        _, pullback = vjp(OPERATIONS[self.op].function, *arrays[:-1], **self.example.options)
        return pullback(arrays[-1])

    def both(self, *arrays: Array) -> Arrays:
        return self.call(*arrays[:-1]), *self.pull(*arrays)

    def loss(self, *arrays: Array) -> Array:
        """``sum(y**2) / 2``, whose second derivative is not zero for linear operations either."""
        y = self.call(*arrays)
        return (y * y).sum() / 2

    @cached_property
    def y(self) -> Array:
        oracle = self.op in ORACLE
        return reference(self.op, *self.arrays, **self.example.options) if oracle else self.call(*self.arrays)

    @cached_property
    def cotangents(self) -> Arrays:
        """One difference of ``<cotangent, y>`` for each element of each array."""
        gradients = []
        for i, array in enumerate(self.arrays):
            units = np.eye(array.size).reshape(array.size, *array.shape)
            slopes = [
                self._slope(lambda *arrays: (np.sum(self.cotangent * self.call(*arrays)),), self._only(i, unit))[0]
                for unit in units
            ]
            gradients.append(np.reshape(slopes, array.shape))
        return tuple(gradients)

    @cached_property
    def curvature(self) -> Arrays:
        """The difference of the loss' gradient along the tangents."""
        return self._slope(lambda *arrays: self.pull(*arrays, self.call(*arrays)), self.tangents)

    def _only(self, i: int, tangent: Array) -> Arrays:
        return tuple(tangent if j == i else np.zeros_like(array) for j, array in enumerate(self.arrays))

    def _slope(self, function: Function, tangents: Arrays) -> Arrays:
        up, down = (
            function(*(a + step * t for a, t in zip(self.arrays, tangents, strict=True))) for step in (STEP, -STEP)
        )
        return tuple((a - b) / (2 * STEP) for a, b in zip(up, down, strict=True))


def _compare(library: Library, results: Sequence[Array], expected: Sequence[Array], tolerance: float = 1e-7) -> None:
    """Results are this library's float64 arrays with the expected values."""
    backend = library_backend(library.name)
    for result, right in zip(results, expected, strict=True):
        if get_backend(result) is not backend or not str(result.dtype).endswith("float64"):
            raise AssertionError(f"gives {type(result).__name__} of {result.dtype}")
        np.testing.assert_allclose(backend.to_numpy(result), right, tolerance, tolerance)


def _own(library: Library, *arrays: Array) -> Arrays:
    return tuple(library.make(array) for array in arrays)


def check_forward(library: Library, case: Case) -> None:
    _compare(library, [case.call(*_own(library, *case.arrays))], [case.y], 1e-12)


def check_vjp(library: Library, case: Case) -> None:
    _compare(library, case.pull(*_own(library, *case.arrays, case.cotangent)), case.cotangents)


def check_compile(library: Library, case: Case) -> None:
    if library.compile is None:
        raise Lacking(library.lacks)
    results = library.compile(case.both)(*_own(library, *case.arrays, case.cotangent))
    _compare(library, results, [case.y, *case.cotangents])


def check_vmap(library: Library, case: Case) -> None:
    if library.vmap is None:
        raise Lacking(library.lacks)
    cases = (case, Case(case.op, 1))
    stacked = [np.stack(pair) for pair in zip(*((*c.arrays, c.cotangent) for c in cases), strict=True)]
    expected = [np.stack(pair) for pair in zip(*((c.y, *c.cotangents) for c in cases), strict=True)]
    _compare(library, library.vmap(case.both)(*_own(library, *stacked)), expected)


def check_second(library: Library, case: Case) -> None:
    if library.hessian is None:
        raise Lacking(library.lacks)
    arrays, tangents = _own(library, *case.arrays), _own(library, *case.tangents)
    _compare(library, library.hessian(case.loss, arrays, tangents), case.curvature)


class Check(NamedTuple):
    """A letter of a cell: what it stands for, the function that raises where it is not so, and the way round."""

    letter: str
    meaning: str
    run: Callable[[Library, Case], None]
    instead: str


CHECKS = (
    Check("F", "forward", check_forward, "convert to NumPy"),
    Check("V", "first derivatives by `arrayconv.vjp`", check_vjp, "use the library's own"),
    Check(
        "J",
        "both under `jax.jit` or `torch.compile(fullgraph=True)` (on Dask L: lazy, nothing computed while building)",
        check_compile,
        "call it uncompiled",
    ),
    Check("M", "both under `vmap` over every array", check_vmap, "give the batch as leading axes, or loop"),
    Check("2", "second derivatives by the library's own differentiation", check_second, "use differences of `vjp`"),
)


class Footnotes:
    """Numbered texts, each kept once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"({self.texts.index(text) + 1})"

    def __str__(self) -> str:
        lines = (f"{i}. {text}" for i, text in enumerate(self.texts, 1))
        return "\n".join(fill(line, 120, subsequent_indent="   ", break_on_hyphens=False) for line in lines)


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}"[:160]


def _cell(library: Library, case: Case, notes: Footnotes) -> str:
    letters, marks = [], []
    for check in CHECKS:
        letter = library.letters.get(check.letter, check.letter)
        try:
            check.run(library, case)
        except Lacking:  # the column's heading has the note
            letter = "-"
        except Exception as error:
            letter = "-"
            marks.append(notes.mark(f"`{case.op}` on {library.title}, {check.letter}: {_first_line(error)}; {check.instead}."))
        letters.append(letter)
    return " ".join([*letters, *marks])


def _operations_table(notes: Footnotes) -> Iterator[Sequence[str]]:
    yield ["", *(f"{c.title} {notes.mark(c.lacks)}" if c.lacks else c.title for c in LIBRARIES)]
    for op in OPERATIONS:
        case = Case(op)
        yield [f"`{op}`", *(_cell(library, case, notes) for library in LIBRARIES)]


def _dtype_cell(library: Library, dtype: str, notes: Footnotes) -> str:
    """`correlate` held to the documented bound; integers, over their whole range, to the last bit."""
    backend = library_backend(library.name)
    own = backend.dtype(dtype)
    if own is None:
        return f"- {notes.mark(f'{library.title} has no {dtype}.')}"
    x, kernel = (_random(shape, dtype) for shape in ((2, 70), (40,)))
    try:
        x, kernel = (backend.cast(library.make(array), own) for array in (x, kernel))
        y = correlate(x, kernel)
        assert_within_bound(y, x, kernel, op="correlate")
        if y.dtype != x.dtype:
            raise AssertionError(f"gives {y.dtype}")
    except Exception as error:
        return f"- {notes.mark(f'{dtype} on {library.title}: {_first_line(error)}.')}"
    return "exact" if "int" in dtype else "yes"


def _random(shape: tuple[int, ...], dtype: str) -> Array:
    random = np.random.default_rng(0)
    if "int" in dtype:
        return random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    parts = random.standard_normal((2, *shape))
    return (parts[0] + 1j * parts[1]).astype(dtype) if "complex" in dtype else parts[0].astype("float32")


def _dtypes_table(notes: Footnotes) -> Iterator[Sequence[str]]:
    yield ["dtype", *(library.title for library in LIBRARIES)]
    for dtype in ITEM_SIZES:
        yield [dtype, *(_dtype_cell(library, dtype, notes) for library in LIBRARIES)]


def _markdown(rows: Iterator[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


@contextmanager
def _settled() -> Iterator[None]:
    """JAX with 64-bit types and every warning an error, whatever the process has chosen."""
    config = import_module("jax").config
    wide = config.jax_enable_x64
    config.update("jax_enable_x64", True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        config.update("jax_enable_x64", wide)


def capability_table() -> str:
    """What each library does with each operation and dtype, as Markdown; every mark is the outcome of a run."""
    notes = Footnotes()
    with _settled():
        operations, dtypes = _markdown(_operations_table(notes)), _markdown(_dtypes_table(notes))
    legend = "; ".join(f"**{check.letter}** {check.meaning}" for check in CHECKS)
    return "\n\n".join((legend, operations, dtypes, str(notes)))
