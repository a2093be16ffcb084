"""The notebook that this library grew from, repeated by every library that is installed, number by number."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..backend import Backend, installed_libraries, library_backend
from ..kernels import edges
from ..learn import learn_kernel, sgd
from ..operations.conv import conv
from ..operations.correlate import corr2d, correlate
from ..shapes import output_size
from . import UsageError
from .figures import draw_edges
from .files import new_file

Array = Any
Numbers = Sequence[float]

#: The image with a dark stripe, and the kernel from which the notebook learns.
STRIPE = np.array([[1, 1, 0, 0, 0, 0, 1, 1]] * 6, np.float32)
START = np.array([[0.65482582, 0.5902478]], np.float32)

#: What the notebook prints: the loss before every second of 20 steps, and the kernel after them.
LOSSES = ("19.485", "6.868", "2.626", "1.044", "0.423", "0.172", "0.070", "0.029", "0.012", "0.005")
KERNEL = "1.0070 -0.9927"

#: Size, kernel, padding (both sides together) and stride.
CASES = ((3, 2, 0, 1), (8, 2, 0, 1), (8, 3, 2, 1), (8, 3, 2, 2), (224, 7, 6, 2))

#: Libraries whose arrays are lazy: a loop of steps would build one ever longer graph.
FORWARD_ONLY = {"dask"}


class Section(NamedTuple):
    """What it is about, the notebook's numbers by row, and how a backend finds them.

    ``measure`` gives the numbers of each row; all of them again where it finds them in a second way.
    """

    topic: str
    text: str
    rows: Mapping[str, str]
    measure: Callable[[Backend], Sequence[Numbers]]
    learns: bool = False


class Cell(NamedTuple):
    """What one library shows in one row: its numbers as text, how many they are, and how many aren't the notebook's."""

    text: str
    total: int = 0
    wrong: int = 0


def _rows(backend: Backend, array: Array) -> list[Numbers]:
    rows: list[Numbers] = backend.to_numpy(array).tolist()
    return rows


def _measure_corr2d(backend: Backend) -> list[Numbers]:
    x, kernel = np.arange(9, dtype=np.float32).reshape(3, 3), np.arange(4, dtype=np.float32).reshape(2, 2)
    return _rows(backend, corr2d(backend.xp.asarray(x), backend.xp.asarray(kernel)))


def _measure_edges(backend: Backend) -> list[Numbers]:
    x = backend.xp.asarray(STRIPE)
    return _rows(backend, corr2d(x, edges(like=x)))


def _measure_sizes(backend: Backend) -> list[Numbers]:
    """What the shape arithmetic says, and what an array does."""
    found: list[Numbers] = []
    for size, window, padding, stride in CASES:
        pair = (padding // 2, padding - padding // 2)
        x, kernel = backend.xp.zeros(size), backend.xp.ones(window)
        y = correlate(x, kernel, stride=stride, padding=[pair])
        found.append((output_size(size, window, stride=stride, padding=pair), y.shape[0]))
    return found


def _learn(backend: Backend, op: Callable[..., Array], lead: tuple[int, ...]) -> tuple[Numbers, Numbers]:
    """The notebook's losses and learned kernel by ``op``; ``lead`` are axes of length 1, a batch and channels."""
    x, start = (backend.xp.asarray(array.reshape(lead + array.shape)) for array in (STRIPE, START))
    y = op(x, backend.xp.reshape(edges(like=x), start.shape))
    fit = learn_kernel(x, y, start.shape, op=op, init=start, optimizer=sgd(3e-2), steps=20, method="steps")
    return backend.to_numpy(fit.losses)[1::2].tolist(), backend.to_numpy(fit.kernel).ravel().tolist()


def _measure_learning(backend: Backend) -> list[Numbers]:
    """The losses by both operations beside each other, then the two kernels."""
    (losses, kernel), (others, other) = _learn(backend, correlate, ()), _learn(backend, conv, (1, 1))
    return [*zip(losses, others, strict=True), kernel, other]


SECTIONS = (
    Section(
        "corr2d",
        "Y[i, j] = sum X[i+a, j+b] K[a, b], X = [[0 1 2] [3 4 5] [6 7 8]], K = [[0 1] [2 3]]",
        {"Y[0]": "19 25", "Y[1]": "37 43"},
        _measure_corr2d,
    ),
    Section(
        "vertical edges",
        "six rows of X = [1 1 0 0 0 0 1 1], K = [[1 -1]]",
        {f"Y[{i}]": "0 1 0 0 0 -1 0" for i in range(6)},
        _measure_edges,
    ),
    Section(
        "padding and stride",
        "o = (n + p - k + s) / s, rounded down, for n k p s; by output_size and by correlate",
        {f"{n} {k} {p} {s}": str((n + p - k + s) // s) for n, k, p, s in CASES},
        _measure_sizes,
    ),
    Section(
        "learned kernel",
        "from X and Y in 20 steps of rate 0.03; losses by correlate and by conv, then both kernels",
        {f"loss {2 * i}": loss for i, loss in enumerate(LOSSES, 1)} | dict.fromkeys(("correlate", "conv"), KERNEL),
        _measure_learning,
        learns=True,
    ),
)


def _agrees(found: float, printed: str) -> bool:
    """A number is the printed one where it rounds to its decimals; without decimals it is exact."""
    decimals = len(printed.partition(".")[2])
    return (round(found, decimals) if decimals else found) == float(printed)


def _show(found: float, printed: str) -> str:
    """As many decimals as the notebook prints, without a sign before zero."""
    decimals = len(printed.partition(".")[2])
    return f"{found + 0:.{decimals}f}" if decimals else f"{found + 0:.6g}"


def compare(found: Numbers, printed: str) -> Cell:
    """The cell of what was found, beside the numbers that the notebook prints in this row."""
    words = printed.split()
    pairs = list(zip(found, words * (len(found) // len(words)), strict=True))
    return Cell(" ".join(_show(*pair) for pair in pairs), len(pairs), sum(not _agrees(*pair) for pair in pairs))


def _column(section: Section, backend: Backend) -> list[Cell]:
    """A library's cells, one a row."""
    if section.learns and backend.name in FORWARD_ONLY:
        return [Cell("forward only"), *[Cell("")] * (len(section.rows) - 1)]
    return [compare(*pair) for pair in zip(section.measure(backend), section.rows.values(), strict=True)]


def import_backends() -> dict[str, Backend]:
    """Every library that imports; a broken installation gets a line of its own."""
    backends = {}
    for name in installed_libraries():
        try:
            backends[name] = library_backend(name)
        except ImportError as error:
            print(f"{name} is installed but does not import: {error}\n")
    return backends


def _line(texts: Iterable[str], widths: Iterable[int]) -> None:
    print("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())


def _verdict(count: int, wrong: Mapping[str, int]) -> str:
    """The last line: ``wrong`` has the wrong numbers of every cell."""
    places = [place for place, number in wrong.items() if number]
    if not places:
        return f"all {count} numbers agree with the notebook"
    listed = ", ".join(places[:4] + ["..."] * (len(places) > 4))
    return f"{sum(wrong.values())} of {count} numbers disagree with the notebook: {listed}"


def tell() -> bool:
    """Print the notebook's numbers, those of each library beside them; whether all agree."""
    print(f"arrayconv {__version__} repeats a notebook on convolution with every library that is installed here\n")
    backends = import_backends()
    heads = [("notebook", ""), *((name, str(import_module(name).__version__)) for name in backends)]
    widths = [12, *(max(14, *map(len, head)) for head in heads)]
    for texts in zip(*heads, strict=True):
        _line(("", *texts), widths)
    count, wrong = 0, {}
    for section in SECTIONS:
        print(f"{section.topic}: {section.text}")
        columns = [_column(section, backend) for backend in backends.values()]
        for (row, printed), cells in zip(section.rows.items(), zip(*columns, strict=True), strict=True):
            _line((f"  {row}", printed, *(cell.text for cell in cells)), widths)
            for name, cell in zip(backends, cells, strict=True):
                count += cell.total
                wrong[f"{name} in {section.topic} {row}"] = cell.wrong
    print(f"\n{_verdict(count, wrong)}")
    return not any(wrong.values())


def add(parser: ArgumentParser) -> None:
    """The arguments of ``python -m arrayconv``."""
    parser.add_argument("--plot", type=new_file(".png"), metavar="FILE", help="write a photograph's edges as a PNG")
    parser.add_argument("--photo", metavar="FILE", help="the photograph of --plot; by default one of scikit-image's")


def run(args: Namespace) -> int:
    """0 where every number agrees."""
    if args.photo is not None and args.plot is None:
        raise UsageError("--photo does nothing without --plot FILE")
    if args.plot is not None:
        draw_edges(args.photo, args.plot)
    agree = tell()
    if args.plot is not None:
        print(f"the edges of a photograph: {args.plot}")
    return 0 if agree else 1
