"""Seconds a unit of work, by library and algorithm: written by ``python -m bench fit``.

Measured on two cores; the row "avx2" of `rates.PROCESSORS`.
"""

from __future__ import annotations

# fmt: off
SECONDS: dict[str, dict[str, dict[str, float]]] = {
}
