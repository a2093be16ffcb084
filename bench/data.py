"""Results as JSON files under ``bench/results``, and the planner's measured problems read back from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings
from arrayconv.program import Problem
from bench import machine

RESULTS = Path(__file__).parent / "results"


class Sink:
    """A file of results that is whole after every row: a run that is stopped keeps what it has measured."""

    def __init__(self, name: str | None, kind: str, **more: Any) -> None:
        """``kind`` is the command that makes the rows; beside them stand what was measured, with what, and where.

        Without a name the rows are kept in memory only.
        """
        self.path = RESULTS / f"{name}.json" if name else None
        self.rows: list[dict[str, Any]] = []
        self.head = {
            "kind": kind,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": machine.commit(),
            "machine": machine.describe_machine(),
            "versions": machine.versions(),
            **more,
        }

    def add(self, row: dict[str, Any]) -> None:
        """One line of the file."""
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """All rows, as they are now."""
        if self.path is not None:
            self.path.parent.mkdir(exist_ok=True)
            write(self.path, self.head, self.rows)


def write(path: Path, head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """A row is a line."""
    start = json.dumps(head, indent=1)[:-2]
    lines = ",\n  ".join(map(json.dumps, rows))
    path.write_text(f'{start},\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


def replace_rows(name: str, kind: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Rows of a run of some tasks in the place of those tasks' earlier rows.

    The head is that of the run of all tasks, but for ``more``; ``later`` says what differs for these.
    """
    path, new = RESULTS / f"{name}.json", Sink(None, kind, **more).head
    head = load(path) if path.exists() else dict(new)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    kept = [row for row in head.pop("rows", []) if row["task"] not in tasks]
    own = {key: value for key, value in new.items() if key not in more and value != head.get(key)}
    head |= {**more, "later": head.get("later", {}) | dict.fromkeys(tasks, own)}
    write(path, head, kept + rows)
    return path


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def geometry_fields(geometry: Geometry) -> dict[str, Any]:
    return asdict(geometry)


def read_geometry(fields: dict[str, Any]) -> Geometry:
    return Geometry(**{**fields, "axes": tuple(WindowDimension(**axis) for axis in fields["axes"])})


def load_rows(path: str | Path) -> list[tuple[Problem, dict[str, float]]]:
    """The problems that ``python -m bench regret --save`` measured, and the seconds of each algorithm.

    They have the settings in force: rows of a draw are to be read under its accuracy. A rewrite's key is that of its
    parts behind its own name, ``phases/gemm``; every other key is an algorithm's name.
    """
    chosen = current_settings()

    def problem(row: dict[str, Any]) -> Problem:
        geometry = read_geometry(row["geometry"])
        return Problem(geometry, row["dtype"], row["accumulator"], row["library"], row["device"], chosen)

    return [(problem(row), row["seconds"]) for row in load(Path(path))["rows"]]
