"""The ways in which sums over windows are gathered, and which of them takes the least work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend import Backend
from ..geometry import Geometry
from .autocorrelation import by_spectra, spectral_work
from .moments import Axes, Moments, by_tiles, tile_work

Array = Any


class Way(NamedTuple):
    """Its work from shapes alone, in multiply-adds, infinite where it can't serve; and the sums as `by_tiles` lays out.

    ``transforms``: whether the library must have a Fourier transform.
    """

    work: Callable[[Moments, Geometry], float]
    gather: Callable[[Moments, Backend, Axes, Array, Array], Array]
    transforms: bool = False


WAYS = {"tiles": Way(tile_work, by_tiles), "spectra": Way(spectral_work, by_spectra, transforms=True)}


def cheapest_way(what: Moments, backend: Backend, geometry: Geometry) -> tuple[float, str]:
    """The least work, and the way that has it."""
    served = [name for name, way in WAYS.items() if not way.transforms or hasattr(backend.xp, "fft")]
    return min((WAYS[name].work(what, geometry), name) for name in served)


def total_work(what: Moments, backend: Backend, geometry: Geometry) -> float:
    """Multiply-adds, or their time's worth, of `gather`."""
    return cheapest_way(what, backend, geometry)[0]


def gather(what: Moments, backend: Backend, axes: Axes, x: Array, y: Array) -> Array:
    """All sums of a set of outputs, end to end in one array; what `Backend.sum_windows` is given."""
    geometry = Geometry(x.shape[0], what.groups, what.inputs, what.outputs, axes)
    _, name = cheapest_way(what, backend, geometry)
    return WAYS[name].gather(what, backend, axes, x, y)
