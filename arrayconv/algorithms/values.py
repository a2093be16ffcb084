"""What algorithms that read values see of them: a plan none, a call those of arrays that are no more than values."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Backend
from ..program import Problem

Array = Any


def hidden(problem: Problem, backend: Backend, whose: str) -> str | None:
    """The reason where no call may; under vmap `shown` says for each array whether it may be seen."""
    if backend.peek is not None and problem.is_on_cpu:
        return None
    where = backend.name if problem.is_on_cpu else f"{backend.name} on {problem.device}"
    return f"it reads the {whose} values, which {where} does not show"


def shown(backend: Backend, *arrays: Array) -> list[np.ndarray[Any, Any]] | None:
    """The values of all of these, or None where one of them is traced, or recorded for a gradient."""
    if backend.peek is None:
        return None
    found = [values for values in map(backend.peek, arrays) if values is not None]
    return found if len(found) == len(arrays) else None
