"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Measured on two cores; the row "avx2" of `rates.PROCESSORS`.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
}

#: Seconds by library for one of the row "avx512"; the prices above are those at its pace.
PACES: dict[str, float] = {"jax": 2.87, "torch": 3.07}
