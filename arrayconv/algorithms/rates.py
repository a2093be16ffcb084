"""The cost model: seconds for one unit of each kind of work, by library and algorithm.

An algorithm counts its work (`Algorithm.counts`), a table holds what a unit takes, and the sum of the products is the
estimate. Elements are counted as float32; a type of twice the size counts twice. Types for which a library has other
loops have some prices of their own, "torch float64", and kinds of processors have a `Paces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from ..processor import processor
from ..program import Problem
from .fitted import PACES, SECONDS
from .fitted_types import SECONDS as TYPES

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
    ("numpy", "cpu", "winograd"): 1.18,
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


#: Kinds of processors. Prices are at the pace of the first, on which most calls were measured; another takes so many
#: times as long for products, and for all else (`Paces`).
PROCESSORS = ("avx512", "zen4", "avx2")
BASE = PROCESSORS[0]

#: Whose prices an algorithm has in a library where it was not measured.
LENDER = "torch"

#: Words for multiply-adds, and those that make it elements or runs of them.
PRODUCTS = {"product", "pointwise", "dense", "blocked", "thick", "thin", "single", "wide", "long", "grouped"}
PRODUCTS |= {"depthwise", "dilated", "swapped", "folded", "unfolded"}
ELEMENTS = {"input", "output", "column", "run", "row", "written"}


def is_product(unit: str) -> bool:
    """Whether multiply-adds are counted."""
    words = unit.split()
    return bool(PRODUCTS & set(words)) and words[-1] not in ELEMENTS


class Paces(NamedTuple):
    """Seconds on a kind of processor for one on `BASE`. Narrow vectors halve the rate of products, not of memory."""

    products: float = 1.0
    others: float = 1.0

    def of(self, unit: str) -> float:
        return self.products if is_product(unit) else self.others


def paces(kind: str, library: str) -> Paces:
    """Of every type."""
    return Paces(*PACES.get(kind, {}).get(library, ()))


def kind_of(problem: Problem) -> str:
    """The types that have prices in common: those of the same loops."""
    if problem.accumulator == "float32":
        return "float32"
    return "integer" if problem.is_integer else "complex" if problem.is_complex else problem.accumulator


def table_of(library: str, kind: str) -> str:
    """The name of a library's prices of a kind of type."""
    return library if kind == "float32" else f"{library} {kind}"


def measured_as(library: str) -> str:
    """One that was not measured is taken for NumPy."""
    return library if library in SECONDS else "numpy"


def prices(library: str, kind: str, algorithm: str) -> dict[str, float]:
    """Seconds a unit at `BASE`'s pace: float32's, but for those that another type has of its own."""
    measured = measured_as(library)
    own = SECONDS[measured].get(algorithm) or SECONDS[LENDER].get(algorithm, {})
    return own | TYPES.get(table_of(measured, kind), {}).get(algorithm, {})


def rates_of(problem: Problem, algorithm: str, inner: str = "") -> Mapping[str, float]:
    """Seconds a unit on this processor: the algorithm's own prices, and for all other work those of ``inner``."""
    return _rates(problem.library, kind_of(problem), problem.device, algorithm, inner)


@cache
def _rates(library: str, kind: str, device: str, algorithm: str, inner: str) -> Mapping[str, float]:
    found = (prices(library, kind, inner) if inner else {}) | prices(library, kind, algorithm)
    share, pace = own_share(library, device, algorithm), paces(processor(), measured_as(library))
    return {unit: share * pace.of(unit) * seconds for unit, seconds in found.items()}


def seconds_of(rates: Mapping[str, float], counts: Counts) -> float:
    """A kind of work without a price counts nothing."""
    total = 0.0
    for unit, count in counts.items():
        total += count * rates.get(unit, 0.0)
    return total
