"""The static values between geometry and arrays: what to compute (`Problem`) and how (`Program`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from .geometry import Geometry

#: The types that are served, and the bytes of one element.
ITEM_SIZES: dict[str, int] = {
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}


#: What a user may ask of errors; `settings` says what they mean.
ACCURACIES = ("elementwise", "normwise")

#: Elements of a result that no memory holds.
MOST = 2**40

#: What a rewrite (`algorithms/floats.py`) asks of integers in floats: that sums be rounded where they err.
ROUNDED = "rounded"

#: The constants of "elementwise": no error exceeds ``C * K * eps * (|x| * |kernel|) + C2 * eps(float64) * max|x| *
#: sum|kernel|``, K products summed. Rounding to nearest errs by half an eps, so C = 2 leaves a factor of four above K
#: roundings, enough for complex products; C2 is for methods that transform in float64.
C, C2 = 2.0, 8.0

#: The constant of "normwise": no error exceeds ``NORMWISE * K * eps * max|x| * sum|kernel|``, K products summed.
NORMWISE = 128.0


class Settings(NamedTuple):
    """What `settings` holds: temporary bytes, the promise on errors, and measured times."""

    workspace: int = 2**26
    accuracy: str = "elementwise"
    tuning: object = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything that the choice of an algorithm may depend on."""

    geometry: Geometry
    dtype: str
    accumulator: str
    library: str
    device: str
    settings: Settings = field(default_factory=Settings)

    @property
    def is_exact(self) -> bool:
        """Whether no sum may round, in whatever type it is computed."""
        return "int" in self.dtype

    @property
    def is_integer(self) -> bool:
        """Whether sums are those of integers."""
        return "int" in self.accumulator

    @property
    def is_complex(self) -> bool:
        return "complex" in self.dtype

    @property
    def is_on_cpu(self) -> bool:
        """Under `torch.func.vmap` too, whose device kind is "cpu vmap"."""
        return self.device.startswith("cpu")

    @property
    def itemsize(self) -> int:
        """Bytes of one element while it is summed."""
        return ITEM_SIZES[self.accumulator]

    @property
    def too_large(self) -> str | None:
        """The reason of what asks for the result at once; what works in tiles refuses it by their number."""
        shape = self.geometry.y_shape
        return None if prod(shape) <= MOST else f"a result of {shape} is more than any memory holds; pad less"

    def with_geometry(self, geometry: Geometry) -> Problem:
        return Problem(geometry, self.dtype, self.accumulator, self.library, self.device, self.settings)


def problems_of(parts: Callable[[Geometry], tuple[Geometry, ...]]) -> Callable[[Problem], tuple[Problem, ...]]:
    """A rewrite of geometries as one of problems."""
    return lambda problem: tuple([problem.with_geometry(geometry) for geometry in parts(problem.geometry)])


class _Prepared:
    """A slot that is no field: what lies in it follows from the fields, which alone are compared and pickled."""

    __slots__ = ("prepared",)
    prepared: Any


@dataclass(frozen=True, slots=True)
class Program(_Prepared):
    """A problem with its algorithm; hashable, so it can be the parameter of a JAX primitive.

    ``requested`` is the user's word, kept so that derivatives and batches are planned in the same spirit.
    ``block`` is the largest piece ``(batch, *out)`` that a thread computes, ``at_once`` how many threads do so,
    ``workspace`` the temporary bytes of all, and ``parts`` are the programs that a rewrite (`algorithms/phases.py`)
    runs. ``rank`` is the largest of a kernel that `algorithms/separable.py` takes, and ``otherwise`` runs in place of
    an algorithm that the values at hand rule out. ``prepared`` is what the algorithm derives from all this at the first
    run (slices, widths), so that later ones only move arrays (`algorithms.prepared`).
    """

    problem: Problem
    algorithm: str
    requested: str = "auto"
    block: tuple[int, ...] = ()
    workspace: int = 0
    parts: tuple[Program, ...] = ()
    rank: int = 1
    at_once: int = 1
    otherwise: Program | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepared", None)

    @property
    def geometry(self) -> Geometry:
        return self.problem.geometry

    def __reduce__(self) -> tuple[Any, ...]:
        """``prepared`` grows with the number of tiles and can be derived again."""
        fields = self.problem, self.algorithm, self.requested, self.block, self.workspace, self.parts, self.rank
        return Program, (*fields, self.at_once, self.otherwise)
