"""The cost model: seconds for one unit of each kind of work, by kind of processor, library and algorithm.

An algorithm counts its work (`Algorithm.counts`), a table of `PROCESSORS` holds what a unit takes, and the sum of the
products is the estimate. Elements are counted as float32; a type of twice the size counts twice. Types for which a
library has other loops have tables of their own, "torch float64", of the algorithms that were measured with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from ..processor import processor
from ..program import Problem

#: How much of each kind of work a call is.
Counts = dict[str, float]

#: What a library's own algorithms are taken to cost of their estimate, by library, kind of device and algorithm. On a
#: plain CPU a near tie goes to its own convolution: by these shares a fifth to a half fewer of the measured calls lose
#: to it, and their mean stays. A correlation by its gradient of a kernel is no call that a user would make, and has no
#: such share. `torch.func.vmap` makes one grouped convolution of either, and of the others a batching rule for each
#: step. Winograd's errors are larger than those of products and its time, most of it the memory's, varies more: a near
#: tie goes to these (8 x 64 x 56 x 56, 64 filters: estimated alike, 13.7 ms and 12.8, 13.2 and 12.5, 18.6 and 14.5).
OWN_SHARES = {
    ("torch", "cpu", "native"): 0.72,
    ("torch", "cpu", "wgrad"): 1.0,
    ("torch", "cpu vmap", "native"): 0.1,
    ("torch", "cpu vmap", "wgrad"): 0.1,
    ("jax", "cpu", "native"): 0.86,
    ("numpy", "cpu", "native"): 1.0,
    ("numpy", "cpu", "winograd"): 1.15,
}

#: The same on accelerators: they are the choice until a `Tuning` says otherwise.
ACCELERATED = {"native": 1e-4, "wgrad": 1e-4}


#: What a part of a rewrite is taken to cost of its estimate, which is the least of several, and so too low more often
#: than not. By this share 13 of 651 measured transposed calls lose to PyTorch's own in place of 31, for half a percent
#: in the mean; nothing was gained by one for other rewrites, nor in JAX or NumPy.
PART_SHARES = {("torch", "cpu", "phases"): 1.3, ("torch", "cpu", "subpixel"): 1.3}


def part_share(library: str, device: str, rewrite: str) -> float:
    return PART_SHARES.get((library, device, rewrite), 1.0)


def own_share(library: str, device: str, algorithm: str) -> float:
    return OWN_SHARES.get((library, device, algorithm), ACCELERATED.get(algorithm, 1.0))


#: Tables of prices by kind of processor, of float32 and of other types. Narrow vectors halve the rate of matrix
#: products, but not that of transforms or of memory; a library has prices of its own there where those of `BASE` choose
#: worse (`bench.near`).
PROCESSORS = {
    "avx512": ("arrayconv.algorithms.fitted", "arrayconv.algorithms.fitted_types"),
    "zen4": ("arrayconv.algorithms.fitted_zen4",),
    "avx2": ("arrayconv.algorithms.fitted_avx2",),
}

#: The kind of processor that was measured most.
BASE = next(iter(PROCESSORS))

Prices = dict[str, dict[str, dict[str, float]]]


def own_prices(kind: str) -> Prices:
    """Of the libraries that have their own on a kind of processor."""
    tables: list[Prices] = [import_module(name).SECONDS for name in PROCESSORS[kind]]
    return {name: rates for table in tables for name, rates in table.items()}


@cache
def prices(kind: str) -> Prices:
    """Seconds a unit, by `table_of` and algorithm, at `BASE`'s pace; a library may have its prices there too."""
    return own_prices(kind) if kind == BASE else prices(BASE) | own_prices(kind)


@cache
def paces(kind: str) -> dict[str, float]:
    """How long a library takes on a kind of processor for what takes it a second on `BASE`: of every type."""
    found: dict[str, float] = vars(import_module(PROCESSORS[kind][0])).get("PACES", {})
    return found


def kind_of(problem: Problem) -> str:
    """The types that have prices in common: those of the same loops."""
    if problem.accumulator == "float32":
        return "float32"
    return "integer" if problem.is_integer else "complex" if problem.is_complex else problem.accumulator


def table_of(library: str, kind: str) -> str:
    """The name of a library's prices of a kind of type."""
    return library if kind == "float32" else f"{library} {kind}"


def rates_of(problem: Problem, algorithm: str) -> Mapping[str, float]:
    """Seconds a unit; a type that was not measured has float32's, and a library that was not, NumPy's."""
    return _rates(problem.library, kind_of(problem), problem.device, algorithm)


@cache
def _rates(library: str, kind: str, device: str, algorithm: str) -> Mapping[str, float]:
    tables = prices(processor())
    measured = library if library in tables else "numpy"
    rates = (tables[measured] | tables.get(table_of(measured, kind), {})).get(algorithm, {})
    factor = own_share(library, device, algorithm) * paces(processor()).get(measured, 1.0)
    return rates if factor == 1.0 else {unit: seconds * factor for unit, seconds in rates.items()}


def seconds_of(rates: Mapping[str, float], counts: Counts) -> float:
    """A kind of work without a price counts nothing."""
    total = 0.0
    for unit, count in counts.items():
        total += count * rates.get(unit, 0.0)
    return total
