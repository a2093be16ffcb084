"""The table in README.md of what each library can do, found by doing it.

``python -m arrayconv.testing.capabilities`` prints it, ``--write README.md`` puts it between the markers of that file.
A new operation needs a row in `EXAMPLES`, `examples.py`. The libraries of `LIBRARIES` must be installed.
"""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np

from ..backend import get_backend, library_backend
from ..operations.correlate import correlate
from ..operations.table import OPERATIONS
from ..program import ITEM_SIZES
from .bound import assert_within_bound
from .examples import Array, Arrays, Case, Function

BEGIN, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"


class LackError(Exception):
    """A library has no such thing; the text says so and what to call instead."""


@dataclass(frozen=True)
class Library:
    """A column: ``make`` gives its arrays, the others are its own transformations, None where it has none.

    Each is a function of the library's module and: a NumPy array (``make``), a function (``compile``, ``vmap``), or a
    loss, arrays and tangents (``hessian``, the product of the loss' second derivative and the tangents).
    """

    name: str
    title: str
    make: Function
    compile: Function | None = None
    vmap: Function | None = None
    hessian: Function | None = None
    lacks: str = ""
    letters: Mapping[str, str] = field(default_factory=dict)

    @property
    def module(self) -> Any:
        library_backend(self.name)  # imports dask.array too
        return import_module(self.name)

    def arrays(self, arrays: Sequence[Array]) -> Arrays:
        return tuple(self.make(self.module, array) for array in arrays)

    def transform(self, own: Function | None, *arguments: Any) -> Any:
        """One of the library's transformations of these arguments."""
        if own is None:
            raise LackError(self.lacks)
        return own(self.module, *arguments)


def _dask_array(dask: Any, array: Array) -> Array:
    """Two uneven chunks along every axis of five elements or more."""
    chunks = tuple((n // 3, n - n // 3) if n >= 5 else (n,) for n in array.shape)
    return dask.array.from_array(array, chunks=chunks)


def _lazy(dask: Any, function: Function) -> Function:
    """``function`` on Dask arrays, in which nothing may be computed."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computes while the graph is built")

    def build(*arrays: Array) -> Any:
        with dask.config.set(scheduler=refuse):
            return function(*arrays)

    return build


def _torch_compile(torch: Any, function: Function) -> Any:
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="eager")


def _torch_hessian(torch: Any, loss: Function, arrays: Arrays, tangents: Arrays) -> Any:
    """Double backward."""
    arrays = tuple(array.requires_grad_() for array in arrays)
    gradient = torch.autograd.grad(loss(*arrays), arrays, create_graph=True)
    return torch.autograd.grad(gradient, arrays, tangents)


def _jax_hessian(jax: Any, loss: Function, arrays: Arrays, tangents: Arrays) -> Any:
    """Forward over reverse, in one compilation."""
    gradient = jax.grad(loss, tuple(range(len(arrays))))
    return jax.jit(lambda *tangents: jax.jvp(gradient, arrays, tangents)[1])(*tangents)


NUMPY = Library(
    "numpy",
    "NumPy",
    lambda numpy, array: array,
    lacks="NumPy has no compiler, `vmap` or derivatives of its own: call as it is, batch along the leading axes, take "
    "first derivatives from `vjp` and second ones from JAX or PyTorch.",
)
TORCH = Library(
    "torch",
    "PyTorch",
    lambda torch, array: torch.tensor(array),
    _torch_compile,
    lambda torch, function: torch.func.vmap(function),
    _torch_hessian,
)
JAX = Library(
    "jax",
    "JAX",
    lambda jax, array: jax.numpy.asarray(array),
    lambda jax, function: jax.jit(function),
    lambda jax, function: jax.jit(jax.vmap(function)),
    _jax_hessian,
)
DASK = Library(
    "dask",
    "Dask",
    _dask_array,
    _lazy,
    letters={"J": "L"},
    lacks="Dask has no `vmap` or derivatives of its own: batch along the leading axes, take first derivatives from "
    "`vjp` and second ones from JAX or PyTorch.",
)
STRICT = Library(
    "array_api_strict",
    "array-api-strict",
    lambda strict, array: strict.asarray(array),
    lacks="The array API standard has no compiler, `vmap` or derivatives: as for NumPy.",
)
LIBRARIES = (NUMPY, TORCH, JAX, DASK, STRICT)


def _compare(library: Library, results: Sequence[Array], expected: Sequence[Array], tolerance: float = 1e-7) -> None:
    """Results are this library's float64 arrays with the expected values."""
    backend = library_backend(library.name)
    for result, right in zip(results, expected, strict=True):
        if get_backend(result) is not backend or not str(result.dtype).endswith("float64"):
            raise AssertionError(f"gives {type(result).__name__} of {result.dtype}")
        np.testing.assert_allclose(backend.to_numpy(result), right, tolerance, tolerance)


def check_forward(library: Library, case: Case) -> None:
    _compare(library, [case.call(*library.arrays(case.arrays))], [case.y], 1e-12)


def check_vjp(library: Library, case: Case) -> None:
    _compare(library, case.pull(*library.arrays(case.inputs)), case.cotangents)


def check_compile(library: Library, case: Case) -> None:
    compiled = library.transform(library.compile, case.both)
    _compare(library, compiled(*library.arrays(case.inputs)), case.outputs)


def check_vmap(library: Library, case: Case) -> None:
    mapped = library.transform(library.vmap, case.both)
    other = Case(case.op, seed=1)
    inputs = [np.stack(pair) for pair in zip(case.inputs, other.inputs, strict=True)]
    outputs = [np.stack(pair) for pair in zip(case.outputs, other.outputs, strict=True)]
    _compare(library, mapped(*library.arrays(inputs)), outputs)


def check_second(library: Library, case: Case) -> None:
    arrays, tangents = library.arrays(case.arrays), library.arrays(case.tangents)
    _compare(library, library.transform(library.hessian, case.loss, arrays, tangents), case.curvature)


class Check(NamedTuple):
    """A letter of a cell: what it stands for, the function that raises where it is not so, and the way round."""

    letter: str
    meaning: str
    run: Callable[[Library, Case], None]
    instead: str


CHECKS = (
    Check("F", "forward, in float64 the values that NumPy gives", check_forward, "convert to NumPy"),
    Check("V", "first derivatives by `vjp`, equal to finite differences", check_vjp, "convert to NumPy"),
    Check(
        "J",
        "F and V in one graph of `jax.jit` or `torch.compile(fullgraph=True)`. On Dask L: lazy, no chunk is computed "
        "before the result is asked for",
        check_compile,
        "call it uncompiled",
    ),
    Check("M", "F and V under the library's `vmap`, over every array at once", check_vmap, "batch on leading axes"),
    Check(
        "2",
        "second derivatives by the library's own differentiation (`jax.jvp` of `jax.grad`, PyTorch's double backward), "
        "equal to finite differences",
        check_second,
        "difference the first derivatives",
    ),
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
        return "\n".join(_filled(f"{i}. {text}") for i, text in enumerate(self.texts, 1))


def _filled(item: str) -> str:
    """An item of a list in lines of 120."""
    return fill(item, 120, subsequent_indent=" " * (item.index(" ") + 1), break_on_hyphens=False)


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}"[:200].rstrip(".")


def _cell(library: Library, case: Case, notes: Footnotes) -> str:
    """The letters that hold; a "-" with a footnote for each that doesn't, unless the column's heading has it."""
    letters, marks = [], []
    for check in CHECKS:
        letter = library.letters.get(check.letter, check.letter)
        try:
            check.run(library, case)
        except LackError:
            letter = "-"
        except Exception as error:
            marks.append(notes.mark(f"{letter} on {library.title}: {_first_line(error)}; {check.instead}."))
            letter = "-"
        letters.append(letter)
    return " ".join([*letters, *marks])


def _operations_table(notes: Footnotes) -> Iterator[Sequence[str]]:
    yield ["operation", *(f"{c.title} {notes.mark(c.lacks)}" if c.lacks else c.title for c in LIBRARIES)]
    for case in [Case(op) for op in OPERATIONS]:
        yield [f"`{case.op}`", *(_cell(library, case, notes) for library in LIBRARIES)]


def _dtype_cell(library: Library, dtype: str, notes: Footnotes) -> str:
    """`correlate` held to the documented bound; integers, over their whole range, to the last bit."""
    backend = library_backend(library.name)
    own = backend.dtype(dtype)
    if own is None:
        return f"- {notes.mark(f'The library has no {dtype}; cast to float32.')}"
    arrays = [_random(shape, dtype) for shape in ((2, 70), (40,))]
    try:
        x, kernel = (backend.cast(array, own) for array in library.arrays(arrays))
        y = correlate(x, kernel)
        assert_within_bound(y, x, kernel, op="correlate")
        if y.dtype != x.dtype:
            raise AssertionError(f"gives {y.dtype}")
    except Exception as error:
        return f"- {notes.mark(f'{library.title}: {_first_line(error)}.')}"
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


DTYPES = """\
Dtypes of `correlate`. exact: integers of the whole range, wrapped where the dtype overflows, right to the last bit;
yes: within the documented error bound."""


def _markdown(rows: Iterator[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


#: JAX's settings while the table is made: the time goes into compiling, so XLA compiles quickly.
JAX_SETTINGS = {"jax_enable_x64": True, "jax_disable_most_optimizations": True}


@contextmanager
def _settled() -> Iterator[None]:
    """The same outcome in every process: JAX set as above, and every warning an error."""
    config = JAX.module.config
    before = {name: config.read(name) for name in JAX_SETTINGS}
    try:
        for name, value in JAX_SETTINGS.items():
            config.update(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        for name, value in before.items():
            config.update(name, value)


def capability_table() -> str:
    """What each library does with each operation and dtype, as Markdown; every mark is the outcome of a run."""
    notes = Footnotes()
    with _settled():
        operations, dtypes = _markdown(_operations_table(notes)), _markdown(_dtypes_table(notes))
    legend = "\n".join(_filled(f"- {check.letter}: {check.meaning}.") for check in CHECKS)
    return "\n\n".join((legend, operations, DTYPES, dtypes, str(notes)))


def replace_region(text: str, table: str) -> str:
    """``text`` with ``table`` between its two markers.

    >>> replace_region(f"a {BEGIN} old {END} z", "new").split()
    ['a', '<!--', 'capabilities:', 'begin', '-->', 'new', '<!--', 'capabilities:', 'end', '-->', 'z']
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no line {BEGIN!r} followed by a line {END!r}; write them where the table goes")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or write it."""
    parser = ArgumentParser(prog="python -m arrayconv.testing.capabilities", description="What each library can do.")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"write it into FILE, after its line {BEGIN}")
    path = parser.parse_args(arguments).write
    table = capability_table()
    if path is None:
        print(table)
    else:
        path.write_text(replace_region(path.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main()
