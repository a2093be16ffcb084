"""The cost model: seconds for one unit of each kind of work, by library and algorithm.

An algorithm counts its work (`Algorithm.counts`), `fitted.py` holds what a unit takes, and the sum of the products is
the estimate. Elements are counted as float32; a type of twice the size counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ..program import Problem
from .fitted import SECONDS

#: How much of each kind of work a call is.
Counts = dict[str, float]

#: What a library's own convolution is taken to cost of its estimate. On a plain CPU a near tie goes to it.
#: `torch.func.vmap` makes one grouped convolution of it, and of the others a batching rule for each step; on an
#: accelerator it is the choice until a `Tuning` says otherwise.
NATIVE_SHARE = {"cpu": 0.9, "cpu vmap": 0.1}
ACCELERATED = 1e-4


def rates_of(problem: Problem, algorithm: str) -> Mapping[str, float]:
    """Seconds a unit; a library that was not measured is taken to run as NumPy does."""
    return _rates(problem.library, problem.device, algorithm)


@cache
def _rates(library: str, device: str, algorithm: str) -> Mapping[str, float]:
    rates = SECONDS.get(library, SECONDS["numpy"]).get(algorithm, {})
    share = NATIVE_SHARE.get(device, ACCELERATED) if algorithm == "native" else 1.0
    return rates if share == 1.0 else {unit: seconds * share for unit, seconds in rates.items()}
