"""The file of a tuning: everything comes back, and what is not whole is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_tuning import DIRECT, GEMM, by_hand

import arrayconv as ac
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.program import Problem, Settings

if TYPE_CHECKING:
    pass

#: Every field another one than by default.
AXES = (WindowDimension(3, 5, 7, -2, 4, 2, 6), WindowDimension(0, 1))
GEOMETRY = Geometry(batch=8, groups=9, inputs=10, outputs=11, axes=AXES)
UNLIKE = Problem(GEOMETRY, "int8", "int32", "abacus", "beads", Settings(123, "normwise"))


def test_a_file_keeps_every_field(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    tuning = GEMM | by_hand(UNLIKE, fft=1 / 3, native=5e-324, direct=2)
    tuning.save(path)
    again = ac.Tuning.load(str(path))
    assert again == tuning and hash(again) == hash(tuning)
    assert again.seconds(UNLIKE) == {"fft": 1 / 3, "native": 5e-324, "direct": 2.0}
    assert [child.name for child in tmp_path.iterdir()] == ["tuning.json"]
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["arrayconv"] == ac.__version__ and len(content["entries"]) == 2
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) < 400, "a field a line"
    ac.Tuning().save(path)
    assert ac.Tuning.load(path) == ac.Tuning()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tuning.json"
    GEMM.save(path)

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        DIRECT.save(path)
    assert ac.Tuning.load(path) == GEMM and len(list(tmp_path.iterdir())) == 1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        ac.Tuning.load(tmp_path / "nothing.json")


def put(*path: Any) -> Any:
    """An edit: the last of ``path`` at the place that the others name."""

    def edit(content: Any) -> Any:
        *way, last, value = path
        for step in way:
            content = content[step]
        content[last] = value

    return edit


def drop(*path: Any) -> Any:
    def edit(content: Any) -> Any:
        for step in path[:-1]:
            content = content[step]
        del content[path[-1]]

    return edit


ENTRY, AXIS = ("entries", 0), ("entries", 0, "geometry", "axes", 0)

EDITS = [
    (put("arrayconv", "0.0.1"), r"it was measured with arrayconv 0\.0\.1, this is 0"),
    (put("arrayconv", 1), "it was measured with arrayconv 1, this is 0"),
    (drop("arrayconv"), "it must be an object of arrayconv, entries, got entries"),
    (put("more", 1), "it must be an object of arrayconv, entries, got arrayconv, entries, more"),
    (put("entries", {}), "entries must be a list, got dict"),
    (put("entries", [3]), r"entries\[0\] must be an object of library, .*, seconds, got int"),
    (put("entries", [{}]), r"entries\[0\] must be an object of library, .* got an empty one"),
    (drop(*ENTRY, "device"), r"entries\[0\] must be an object of library, .* got library, version, dtype"),
    (put(*ENTRY, "library", 3), r"entries\[0\]: library must be a string, got 3"),
    (put(*ENTRY, "version", None), r"entries\[0\]: version must be a string, got None"),
    (put(*ENTRY, "device", []), r"entries\[0\]: device must be a string, got \[\]"),
    (put(*ENTRY, "dtype", "float31"), r"entries\[0\]: dtype='float31' is not one of"),
    (put(*ENTRY, "accumulator", 1), r"entries\[0\]: accumulator must be one of .* got 1"),
    (put(*ENTRY, "workspace", 0), r"entries\[0\]: workspace must be >= 1, got 0"),
    (put(*ENTRY, "workspace", True), r"entries\[0\]: workspace must be an int, got True"),
    (
        put(*ENTRY, "accuracy", "best"),
        r"entries\[0\]: accuracy='best' is not one of 'elementwise', 'normwise', 'rounded'",
    ),
    (put(*ENTRY, "geometry", 4), r"entries\[0\]: geometry must be an object of batch, .* got int"),
    (put(*ENTRY, "geometry", "batch", -1), r"entries\[0\]: geometry: batch must be >= 0, got -1"),
    (put(*ENTRY, "geometry", "groups", 1.5), r"entries\[0\]: geometry: groups must be an int, got 1\.5"),
    (put(*ENTRY, "geometry", "axes", None), r"entries\[0\]: geometry must be a list, got NoneType"),
    (put(*AXIS, "stride", 0), r"entries\[0\]: geometry: axes\[0\]: stride must be >= 1, got 0"),
    (put(*AXIS, "low", "2"), r"entries\[0\]: geometry: axes\[0\]: low must be an int, got '2'"),
    (
        drop(*AXIS, "kernel"),
        r"entries\[0\]: geometry: axes\[0\] must be an object of size, kernel, .* got size, stride",
    ),
    (put(*ENTRY, "seconds", [1.0]), r"entries\[0\]: seconds must be an object, .* got \[1\.0\]"),
    (put(*ENTRY, "seconds", "luck", 1.0), r"entries\[0\]: algorithm='luck' is not one of"),
    (put(*ENTRY, "seconds", "gemm", float("nan")), r"entries\[0\]: seconds of 'gemm' must be a positive .* got nan"),
    (put(*ENTRY, "seconds", "gemm", float("inf")), r"entries\[0\]: seconds of 'gemm' must be a positive .* got inf"),
    (put(*ENTRY, "seconds", "gemm", -1.0), r"entries\[0\]: seconds of 'gemm' must be a positive .* got -1\.0"),
    (put(*ENTRY, "seconds", "gemm", 10**400), r"entries\[0\]: seconds of 'gemm' must be a positive .* got 1000"),
    (put(*ENTRY, "seconds", "gemm", "fast"), r"entries\[0\]: seconds of 'gemm' must be a positive .* got 'fast'"),
    (put(*ENTRY, "seconds", "gemm", True), r"entries\[0\]: seconds of 'gemm' must be a positive .* got True"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS, ids=range(len(EDITS)))
def test_a_corrupt_entry(tmp_path: Path, edit: Any, message: str) -> None:
    path = tmp_path / "tuning.json"
    GEMM.save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"Tuning\.load: .*tuning\.json: {message}.*; measure again with arrayconv\.tune"
    ):
        ac.Tuning.load(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe\xfd", b"[" * 100_000, b"{" + b'"a":1' * 2])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tuning.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Tuning\.load: .*tuning\.json: .*; measure again"):
        ac.Tuning.load(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    GEMM.save(path)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"Tuning\.load: .*tuning\.json: "):
            ac.Tuning.load(path)
