"""JAX meshes: results equal one device's, and the compiled programs send edges of shards at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import arrayconv

ROOT = Path(arrayconv.__file__).parent.parent
SCRIPT = Path(__file__).with_name("mesh_script.py")


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    """Every case by name, from one process: the number of devices is fixed once JAX has started."""
    own = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, check=False)
    assert result.returncode == 0, result.stderr
    return {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}


def elements(sent: list[tuple[str, int]]) -> Counter[str]:
    """What is sent by each kind of operation."""
    total: Counter[str] = Counter()
    for kind, size in sent:
        total[kind] += size
    return total


def test_results_are_those_of_one_device(found: dict[str, dict[str, Any]]) -> None:
    """Small integers in every type, so that sums in any order are exact."""
    assert len(found) > 15
    assert {name: row["errors"] for name, row in found.items() if any(row["errors"])} == {}


@pytest.mark.parametrize("kind", ["batch", "depthwise channels", "rows", "image"])
def test_shardings_are_kept(found: dict[str, dict[str, Any]], kind: str) -> None:
    own = {name: row["spread"][:2] for name, row in found.items() if name.startswith(kind)}
    assert all(spread == [True, True] for spread in own.values()), own


@pytest.mark.parametrize("kind", ["batch", "depthwise channels"])
def test_a_batch_and_groups_send_nothing_but_the_kernels_gradient(found: dict[str, dict[str, Any]], kind: str) -> None:
    for name, row in found.items():
        if name.startswith(kind):
            assert row["sent"] == row["larger"], name
            assert row["sent"] == ([["all-reduce", row["kernel"]]] if kind == "batch" else []), name


@pytest.mark.parametrize("kind", ["rows", "image", "explicit"])
def test_spatial_axes_send_edges_only(found: dict[str, dict[str, Any]], kind: str) -> None:
    """x is four times as long: the same edges, but for blocks that don't divide evenly, and a second axis's edges."""
    for name, row in found.items():
        if name.startswith(kind):
            sent, larger = elements(row["sent"]), elements(row["larger"])
            assert set(larger) <= {"collective-permute", "all-reduce"}, name
            assert sent["all-reduce"] == larger["all-reduce"] == row["kernel"], name
            growth = 2 if name in {"rows, stride, uneven", "image, both axes", "image and batch"} else 1
            assert larger["collective-permute"] <= growth * sent["collective-permute"], name


def test_channels_that_are_summed_over_send_one_sum(found: dict[str, dict[str, Any]]) -> None:
    row = found["input channels"]
    assert row["sent"] == [["all-reduce", row["result"]]]
    assert [kind for kind, _ in found["output channels"]["sent"]] == ["all-reduce"]  # x's gradient
