"""The table in README.md is what a run finds, and the checks behind its letters do fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from arrayconv.operations.table import OPERATIONS
from arrayconv.testing import capabilities
from arrayconv.testing.capabilities import BEGIN, CHECKS, DASK, END, TORCH, Check, Footnotes, Library, replace_region
from arrayconv.testing.examples import Case

README = Path(__file__).parent.parent / "README.md"


def test_the_table_in_the_readme_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    current = replace_region(text, capabilities.capability_table())
    assert text == current, "stale: run python -m arrayconv.testing.capabilities --write README.md"


def test_an_operation_without_example_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "blur", OPERATIONS["conv"])
    with pytest.raises(LookupError, match=r"operation 'blur' has no example; give it a row in EXAMPLES"):
        capabilities.capability_table()


class Wrong(Case):
    """Off by a thousandth on any library but NumPy."""

    def call(self, *arrays: Any) -> Any:
        y = super().call(*arrays)
        return y if isinstance(y, np.ndarray) else y * 1.001

    def pull(self, *arrays: Any) -> Any:
        cotangents = super().pull(*arrays)
        return cotangents if isinstance(cotangents[0], np.ndarray) else tuple(dx * 1.001 for dx in cotangents)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.letter)
def test_every_check_compares_values(check: Check) -> None:
    check.run(TORCH, Case("windows"))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check.run(TORCH, Wrong("windows"))


class Eager(Case):
    def call(self, *arrays: Any) -> Any:
        return type(arrays[0]).__array__(arrays[0])


def test_lazy_means_that_nothing_is_computed() -> None:
    with pytest.raises(AssertionError, match="computes while the graph is built"):
        capabilities.check_compile(DASK, Eager("windows"))


def test_results_must_be_of_the_library() -> None:
    with pytest.raises(AssertionError, match="gives ndarray of float64"):
        capabilities.check_forward(DASK, Eager("windows"))


def test_what_fails_is_a_dash_with_a_footnote(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(library: Library, case: Case) -> None:
        raise RuntimeError("no rule for this\nand more lines")

    passes, fails = CHECKS[0], Check("X", "what fails", fail, "call another")
    monkeypatch.setattr(capabilities, "CHECKS", (passes, fails))
    notes = Footnotes()
    cells = [capabilities._cell(TORCH, Case(op), notes) for op in ("pad", "windows")]
    assert cells == ["F - (1)", "F - (1)"]
    assert str(notes) == "1. X on PyTorch: RuntimeError: no rule for this; call another."


def test_only_the_text_between_the_markers_is_replaced() -> None:
    assert replace_region(f"a\n{BEGIN}\nold\n{END}\nz\n", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nz\n"


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_text_without_markers_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no line '<!-- capabilities: begin -->' followed by a line"):
        replace_region(text, "new")


def test_the_command_prints_or_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capabilities, "capability_table", lambda: "the table")
    capabilities.main([])
    assert capsys.readouterr().out == "the table\n"
    path = tmp_path / "README.md"
    path.write_text(f"a\n{BEGIN}\n{END}\n", encoding="utf-8")
    capabilities.main(["--write", str(path)])
    assert path.read_text(encoding="utf-8") == f"a\n{BEGIN}\n\nthe table\n\n{END}\n"


def test_the_settings_of_jax_are_restored() -> None:
    before = {name: jax.config.read(name) for name in capabilities.JAX_SETTINGS}
    with capabilities._settled():
        assert all(jax.config.read(name) for name in before)
    assert {name: jax.config.read(name) for name in capabilities.JAX_SETTINGS} == before
