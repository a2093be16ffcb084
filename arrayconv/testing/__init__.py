"""For people who test across libraries: a slow oracle, the documented error bound, and random calls.

`geometries` and `problems` need hypothesis, the rest does not.
"""

from __future__ import annotations

from ..backend import installed_libraries
from .bound import assert_within_bound as assert_within_bound
from .bound import error_bound as error_bound
from .oracle import reference as reference
from .oracle import wrap_integers as wrap_integers
from .strategies import Call as Call
from .strategies import Case as Case
from .strategies import geometries as geometries
from .strategies import problems as problems


def libraries() -> tuple[str, ...]:
    """Names of the array libraries that are installed here, NumPy first.

    >>> libraries()[0]
    'numpy'
    """
    return installed_libraries()
