"""Measured seconds in place of estimates: made by `operations/tune.py`, kept in a file, read by the planner.

What only a file needs is imported with the file: most programs have none, and each of those modules costs more than
this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from .algorithms import ALGORITHMS
from .arguments import read_int, read_word
from .geometry import Geometry, WindowDimension
from .program import ACCURACIES, ITEM_SIZES, ROUNDED, Problem, Settings
from .version import __version__


class Case(NamedTuple):
    """What measured seconds hold for: a problem without its tuning, and the version of its library."""

    problem: Problem
    version: str


class Entry(NamedTuple):
    """A case, and the seconds of one call by each algorithm that was measured."""

    case: Case
    seconds: tuple[tuple[str, float], ...]


def case_of(problem: Problem) -> Case:
    """The case of a problem with the library as it is loaded now."""
    version = getattr(sys.modules.get(problem.library), "__version__", "")
    return Case(replace(problem, settings=problem.settings._replace(tuning=None)), str(version))


def measured_seconds(problem: Problem) -> Mapping[str, float]:
    """What the tuning in a problem's settings holds for the problem itself; empty without one."""
    tuning = problem.settings.tuning
    return tuning.seconds(problem) if isinstance(tuning, Tuning) else {}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tuning:
    """Measured seconds of algorithms, made by `tune` and used through ``settings(tuning=...)``. Immutable.

    A problem is found by all that its plan depends on (geometry, dtype, accumulator, library, device, workspace and
    accuracy) and by the library's version: entries of another version of NumPy, PyTorch or JAX are kept and don't
    serve. The machine is not part of it, so a file belongs to the machine that wrote it. Of two entries for one
    problem the later holds.

    Raises:
        ValueError: seconds that are not positive and finite, or of an algorithm that arrayconv doesn't have.

    >>> import arrayconv as ac
    >>> len(ac.Tuning()), ac.Tuning() | ac.Tuning()
    (0, Tuning(0 problems))
    """

    entries: tuple[Entry, ...] = ()
    _table: dict[Case, Mapping[str, float]] = field(init=False)
    _hash: int = field(init=False)

    def __post_init__(self) -> None:
        table = {case: _check_seconds("Tuning", dict(seconds)) for case, seconds in self.entries}
        entries = tuple(Entry(case, tuple(sorted(seconds.items()))) for case, seconds in table.items())
        entries = tuple(sorted(entries, key=repr))
        for name, value in (("entries", entries), ("_table", table), ("_hash", hash(entries))):
            object.__setattr__(self, name, value)

    def seconds(self, problem: Problem) -> Mapping[str, float]:
        """Of one call, by algorithm; empty where the problem was not measured."""
        return self._table.get(case_of(problem), {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that `load` reads: JSON, complete or, should anything fail, as it was before.

        >>> import os, tempfile
        >>> import arrayconv as ac
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "tuning.json")
        ...     ac.Tuning().save(path)
        ...     ac.Tuning.load(path) == ac.Tuning()
        True
        """
        from pathlib import Path
        from threading import get_ident

        path = Path(path)
        aside = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}.part")
        try:
            aside.write_text("".join(_write(self.entries)), encoding="utf-8")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tuning:
        """The tuning in a file that `save` wrote.

        A file of another version of arrayconv is refused, since its algorithms may be others under the same names.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a complete tuning, or one of another version of arrayconv.
        """
        import json
        from pathlib import Path

        content = Path(path).read_bytes()
        try:
            return cls(tuple(_read(json.loads(content))))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"Tuning.load: {path}: {error}; measure again with arrayconv.tune") from error

    def __or__(self, other: Tuning) -> Tuning:
        """All entries of both; where both measured a problem, those on the right, as with dicts."""
        return Tuning((*self.entries, *other.entries)) if isinstance(other, Tuning) else NotImplemented

    def __len__(self) -> int:
        """Problems that were measured."""
        return len(self.entries)

    def __repr__(self) -> str:
        return f"Tuning({len(self)} problem{'s' * (len(self) != 1)})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Tuning) and self._hash == other._hash and self.entries == other.entries

    def __hash__(self) -> int:
        """Known: settings are hashed at every call."""
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the hash, which is another one in another process."""
        return Tuning, (self.entries,)


def _check_seconds(where: str, seconds: Mapping[str, Any]) -> dict[str, float]:
    for name, value in seconds.items():
        read_word(where, "algorithm", name, ALGORITHMS)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"{where}: seconds of {name!r} must be a positive number, got {value!r}")
    return {name: float(value) for name, value in seconds.items()}


# The file: one entry after the other, a field a line.

_FIELDS = ("library", "version", "device", "dtype", "accumulator", "workspace", "accuracy", "geometry", "seconds")

#: The least value of each int, None for any.
_GEOMETRY: dict[str, int | None] = {"batch": 0, "groups": 0, "inputs": 0, "outputs": 0}
_AXIS: dict[str, int | None] = {
    "size": 0,
    "kernel": 0,
    "stride": 1,
    "low": None,
    "high": None,
    "window_dilation": 1,
    "base_dilation": 1,
}


def _write(entries: Sequence[Entry]) -> Iterator[str]:
    import json

    yield f'{{\n "arrayconv": {json.dumps(__version__)},\n "entries": ['
    for i, ((problem, version), seconds) in enumerate(entries):
        settings = problem.settings
        values: tuple[Any, ...] = (problem.library, version, problem.device, problem.dtype, problem.accumulator)
        values += (settings.workspace, settings.accuracy, asdict(problem.geometry), dict(seconds))
        lines = [f'   "{name}": {json.dumps(value)}' for name, value in zip(_FIELDS, values, strict=True)]
        yield ("," if i else "") + "\n  {\n" + ",\n".join(lines) + "\n  }"
    yield "\n ]\n}\n"


def _read(content: Any) -> Iterator[Entry]:
    if isinstance(content, dict) and content.get("arrayconv", __version__) != __version__:
        raise ValueError(f"it was measured with arrayconv {content['arrayconv']}, this is {__version__}")
    _, entries = _members("it", content, ("arrayconv", "entries"))
    for i, entry in enumerate(_list("entries", entries)):
        yield _read_entry(f"entries[{i}]", entry)


def _read_entry(where: str, entry: Any) -> Entry:
    library, version, device, dtype, accumulator, workspace, accuracy, geometry, seconds = _members(
        where, entry, _FIELDS
    )
    for name, text in (("library", library), ("version", version), ("device", device)):
        if not isinstance(text, str):
            raise ValueError(f"{where}: {name} must be a string, got {text!r}")
    word = read_word(where, "accuracy", accuracy, (*ACCURACIES, ROUNDED))
    settings = Settings(read_int(where, "workspace", workspace, 1), word)
    problem = Problem(
        _read_geometry(f"{where}: geometry", geometry),
        read_word(where, "dtype", dtype, ITEM_SIZES),
        read_word(where, "accumulator", accumulator, ITEM_SIZES),
        library,
        device,
        settings,
    )
    if not isinstance(seconds, dict):
        raise ValueError(f"{where}: seconds must be an object, a number for each algorithm, got {seconds!r}")
    return Entry(Case(problem, version), tuple(_check_seconds(where, seconds).items()))


def _read_geometry(where: str, geometry: Any) -> Geometry:
    *counts, rows = _members(where, geometry, (*_GEOMETRY, "axes"))
    axes = tuple(
        WindowDimension(*_ints(f"{where}: axes[{i}]", axis, _AXIS)) for i, axis in enumerate(_list(where, rows))
    )
    batch, groups, inputs, outputs = _ints(where, dict(zip(_GEOMETRY, counts, strict=True)), _GEOMETRY)
    return Geometry(batch, groups, inputs, outputs, axes)


def _ints(where: str, value: Any, least: Mapping[str, int | None]) -> list[int]:
    given = zip(least, _members(where, value, tuple(least)), strict=True)
    return [read_int(where, name, number, least[name]) for name, number in given]


def _members(where: str, value: Any, names: Sequence[str]) -> list[Any]:
    """The values of an object that has exactly these names."""
    if not isinstance(value, dict) or set(value) != set(names):
        found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"{where} must be an object of {', '.join(names)}, got {found or 'an empty one'}")
    return [value[name] for name in names]


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {type(value).__name__}")
    return value
