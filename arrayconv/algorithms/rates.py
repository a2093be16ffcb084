"""The cost model: seconds for one unit of each kind of work, by library and algorithm.

An algorithm counts its work (`Algorithm.counts`), `fitted.py` holds what a unit takes, and the sum of the products is
the estimate. Elements are counted as float32; a type of twice the size counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..program import Problem
from .fitted import SECONDS

#: How much of each kind of work a call is.
Counts = dict[str, float]

#: What an accelerator's own convolution takes of the time of a CPU's, so that it is the choice there until a `Tuning`
#: says otherwise.
ACCELERATED = 1e-4


def rates_of(problem: Problem, algorithm: str) -> Mapping[str, float]:
    """Seconds a unit; a library that was not measured is taken to run as NumPy does."""
    rates = SECONDS.get(problem.library, SECONDS["numpy"]).get(algorithm, {})
    if problem.device != "cpu" and algorithm == "native":
        return {unit: seconds * ACCELERATED for unit, seconds in rates.items()}
    return rates
