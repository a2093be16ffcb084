"""The benchmark's own parts: its native calls are right, wrong answers show, its files can be read back."""

from __future__ import annotations

import random
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings
from bench import (
    again,
    choices,
    data,
    draws,
    fit,
    hlo,
    large_fit,
    machine,
    planned,
    regret,
    report,
    summary,
    targets,
    timing,
    weak,
)
from bench.measure import Case
from bench.reference import make_reference
from bench.scale import Images
from bench.workloads import LEARNED, WORKLOADS, Workload, find_workloads

SMALL = {
    "filter": Workload("filter", "image", "filter", ac.correlate, ((2, 9, 10), (3, 4))),
    "separable": Workload("separable", "image", "filter", ac.correlate, ((9, 10), (3, 3)), kernel=ac.kernels.sobel),
    "signal": Workload("signal", "signal", "filter", ac.correlate, ((50,), (7,))),
    "tiny": Workload("tiny", "tiny", "tiny", ac.correlate, ((6, 8), (1, 2))),
    "layer": Workload(
        "layer",
        "dense",
        "layer",
        ac.conv,
        ((2, 4, 9, 8), (6, 2, 3, 3)),
        {"stride": 2, "padding": 2, "dilation": 2, "groups": 2},
    ),
    "depthwise": Workload(
        "depthwise", "depthwise", "depthwise", ac.depthwise_conv, ((2, 3, 8, 9), (3, 1, 3, 3)), {"padding": 1}
    ),
    "transposed 1-D": Workload(
        "transposed", "transposed", "transposed", ac.conv_transpose, ((2, 3, 5), (3, 1, 8)), {"stride": 4}
    ),
    "transposed 2-D": Workload(
        "transposed",
        "transposed",
        "transposed",
        ac.conv_transpose,
        ((2, 3, 5, 6), (3, 2, 4, 4)),
        {"stride": 2, "padding": 1},
    ),
    "deform": Workload(
        "deform", "deform", "deform", ac.deform_conv, ((2, 3, 6, 7), (2, 18, 6, 7), (4, 3, 3, 3)), {"padding": 1}
    ),
    "examples": Workload(
        "examples", "examples", "layer", ac.conv, ((3, 2, 6, 7), (3, 4, 2, 3, 3)), {"padding": 1}, transform="examples"
    ),
    "gradient": Workload(
        "gradient",
        "gradient",
        "filter",
        ac.correlate,
        ((9, 10), (3, 3)),
        transform="gradient",
        libraries=("torch", "jax"),
    ),
    "learn": Workload("learn", "learn", "learn", ac.learn_kernel, ((20, 20), (18, 18), (3, 3)), steps=5),
}


@pytest.mark.parametrize("name", SMALL)
def test_native_calls_and_planned_ones_give_the_reference(name: str) -> None:
    case = Case.make(SMALL[name])
    for library in case.workload.libraries:
        found, scale = case.natives(library)
        assert found and scale == 1
        for is_own, thunk in (*((False, thunk) for thunk in found.values()), (True, case.planned(library))):
            error, fault = case.reference.check(thunk(), is_own=is_own)
            assert not fault, f"{library}: {fault}"
            assert error < 1e-5


def test_wrong_answers_show() -> None:
    arrays = SMALL["filter"].arrays()
    reference = make_reference(SMALL["filter"], arrays)
    right = ac.correlate(*arrays)
    assert reference.check(right, is_own=True)[1] == ""
    wrong = right.copy()
    wrong[1, 2, 3] += 5e-5 * np.max(np.abs(right))
    assert reference.check(wrong)[1] == ""
    assert "times the documented bound" in reference.check(wrong, is_own=True)[1]
    wrong[1, 2, 3] = np.nan
    assert "is off by nan of the largest number" in reference.check(wrong)[1]
    assert "has shape (2, 7), not (2, 7, 7)" in reference.check(right[:, :, 0])[1]


def test_the_workloads_that_targets_name_exist() -> None:
    assert len(WORKLOADS) >= 30
    assert {*LEARNED, *targets.LARGE, "fir 1024", "tiny 1x2", "learn 20 steps", "learn 500 steps"} <= {*WORKLOADS}


def test_workloads_are_found_by_name_and_by_part() -> None:
    assert [row.name for row in find_workloads(["image 3"])] == ["image 3"]
    assert {row.name for row in find_workloads(["image", "tiny"])} > {"image 63", "gradient of image 7", "tiny 1x2"}
    with pytest.raises(ValueError, match=r"no workload has 'imagine' in its name; there are: image 3, "):
        find_workloads(["imagine"])


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "REST", 0.0)
    monkeypatch.setattr(timing, "SHORTEST", 0.0)
    calls: list[str] = []
    times = timing.time_in_turn({name: partial(calls.append, name) for name in "ab"}, 0.0)
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3}
    assert calls[-12:] == ["a", "a", "b", "b"] * 3  # each once untimed, then timed


def test_random_geometries_are_varied_and_fit() -> None:
    rng = random.Random(0)
    drawn = [geometry for _ in range(400) if (geometry := draws.draw_geometry(rng))]
    assert {geometry.ndim for geometry in drawn} == {1, 2, 3}
    assert all(min(geometry.out) >= 1 and geometry.multiply_adds > 0 for geometry in drawn)
    for name, least in (("stride", 2), ("window_dilation", 2), ("base_dilation", 2)):
        assert any(getattr(axis, name) >= least for geometry in drawn for axis in geometry.axes), name
    assert any(geometry.groups > 1 and geometry.inputs == 1 for geometry in drawn)


@pytest.mark.parametrize("name", draws.DRAWS)
def test_every_draw_fits(name: str) -> None:
    rng, draw = random.Random(0), draws.DRAWS[name]
    drawn = [geometry for _ in range(200) if (geometry := draws.draw_geometry(rng, draw))]
    assert len(set(drawn)) > 20 and all(min(geometry.out) >= 1 for geometry in drawn)
    assert not draw.batches or min(geometry.batch for geometry in drawn) > 1
    assert not draw.transposed or any(geometry.is_base_dilated for geometry in drawn)
    assert not draw.training or {geometry.ndim for geometry in drawn} == {1, 2}


def test_regret_is_read_back_as_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "RESULTS", tmp_path)
    monkeypatch.setattr(timing, "REST", 0.0)
    problem = planned.call_problem(ac.plan(ac.conv, (2, 3, 8, 8), (4, 3, 3, 3)).program.geometry, "numpy")
    row = regret.measure(problem, "numpy", 0.0, draw=draws.Draw((1, 1), 0.0, 10.0))
    assert row is not None
    sink = data.Sink("some", "regret")
    sink.add(row)
    ((read, seconds),) = data.load_rows(tmp_path / "some.json")
    assert read == problem and read.settings == current_settings()
    assert row["auto"] in seconds and all(taken > 0 for taken in seconds.values())
    assert regret.regret(row) >= 1
    assert "batch 2, 1 x 3 -> 4 channels; 8(0,0)*3 8(0,0)*3" in regret.summary("numpy", [row])


def test_striking_rows_are_read_anew_when_all_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those alone, and the better reading of each algorithm counts."""
    monkeypatch.setattr(data, "RESULTS", tmp_path)
    monkeypatch.setattr(timing, "REST", 0.0)
    measured, read = list[str](), list[float]()

    def measure(*_: Any) -> dict[str, Any]:
        measured.append("row")
        return {"auto": "gemm", "seconds": {"gemm": 3.0 if len(measured) == 2 else 1.0, "direct": 1.0}}

    def read_again(earlier: dict[str, float], *_: Any) -> dict[str, float]:
        assert len(measured) == 3
        read.append(earlier["gemm"])
        return earlier | {"gemm": 0.5}

    monkeypatch.setattr(regret, "measure", measure)
    monkeypatch.setattr(regret, "read_again", read_again)
    sink = data.Sink("some", "regret")
    regret.measure_all("numpy", Namespace(seed=0, draw=None, count=3, dtype=["float32"], seconds=0, factor=10), sink)
    assert read == [3.0]
    for rows in (sink.rows, data.load(tmp_path / "some.json")["rows"]):
        assert [row["seconds"]["gemm"] for row in rows] == [1.0, 0.5, 1.0]


def test_of_two_readings_the_better_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was ten times behind, and more, is not run again."""
    monkeypatch.setattr(timing, "REST", 0.0)
    problem = planned.call_problem(ac.plan(ac.conv, (2, 3, 8, 8), (4, 3, 3, 3)).program.geometry, "numpy")
    labels = [candidate.label for candidate in regret.contest(problem, "numpy", 10.0)[1]]
    assert {"gemm", "direct"} <= set(labels)
    earlier = dict.fromkeys(labels, 1.0) | {"direct": 1e9, "gemm": 1e-9}
    found = regret.read_again(earlier, problem, "numpy", 0.0, 10.0)
    assert found["direct"] == 1e9 and found["gemm"] == 1e-9
    found = regret.read_again(dict.fromkeys(labels, 1.0), problem, "numpy", 0.0, 10.0)
    assert all(0 < taken < 1 for taken in found.values())


def test_an_algorithm_is_timed_again_and_the_others_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "RESULTS", tmp_path)
    monkeypatch.setattr(timing, "REST", 0.0)
    problem = planned.call_problem(ac.plan(ac.conv, (2, 3, 8, 8), (4, 3, 3, 3)).program.geometry, "numpy")
    row = regret.measure(problem, "numpy", 0.0, draw=draws.Draw((1, 1), 0.0, 10.0))
    assert row is not None and {"gemm", "direct"} <= row["seconds"].keys()
    row["seconds"]["gemm"] = 1e9
    data.Sink("some-numpy", "regret").add(row)
    again.renew(tmp_path / "some-numpy.json", "numpy", ["gemm"], 0.0, is_mean=True)
    ((_, mean),) = data.load_rows(tmp_path / "some-numpy.json")
    again.renew(tmp_path / "some-numpy.json", "numpy", ["gemm"], 0.0, is_mean=False)
    ((_, seconds),) = data.load_rows(tmp_path / "some-numpy.json")
    assert seconds["gemm"] < 1 < mean["gemm"] < 1e9
    assert {**seconds, "gemm": 0.0} == {**row["seconds"], "gemm": 0.0}


@pytest.mark.parametrize("name", ["normwise", "zen4-normwise"])
def test_what_serves_under_a_setting_alone_is_timed_again_under_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "RESULTS", tmp_path)
    monkeypatch.setattr(timing, "REST", 0.0)
    with ac.settings(accuracy="normwise"):
        problem = planned.call_problem(ac.plan(ac.conv, (2, 32, 16, 16), (32, 32, 3, 3)).program.geometry, "numpy")
        row = regret.measure(problem, "numpy", 0.0, draw=draws.Draw((1, 1), 0.0, 10.0))
    assert row is not None and "winograd" in row["seconds"]
    data.Sink(f"{name}-numpy", "regret").add(row)
    args = Namespace(algorithms=["winograd"], library=["numpy"], data=[name], seconds=0.0, mean=False)
    assert again.run(args) == 0
    ((_, seconds),) = data.load_rows(tmp_path / f"{name}-numpy.json")
    assert seconds.keys() == row["seconds"].keys() and seconds["winograd"] != row["seconds"]["winograd"]


def test_prices_weigh_what_choices_cost() -> None:
    """One price can't meet both geometries; it settles where the choice in each of them is the better one."""

    def geometry(work: float, seconds: float, other: float) -> list[choices.Timed]:
        return [choices.Timed({("a", "work"): work}, seconds, 1.0), choices.Timed({("b", "call"): 1.0}, other, 1.0)]

    geometries = [geometry(1.0, 1.0, 2.0), geometry(1.0, 3.0, 2.0), geometry(2.0, 3.0, 2.0)]
    prices = {("a", "work"): 3.0, ("b", "call"): 2.0}
    refined = choices.fit(prices, geometries, dict.fromkeys(prices, (0.01, 10.0)), move=2.0)
    assert refined["a", "work"] < refined["b", "call"] < 2 * refined["a", "work"]
    cost = choices.Cost(
        np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 1.0]]),
        np.log([1.0, 2.0, 3.0, 2.0]),
        np.log([1.0, 0.9, 1.0, 0.9]),
        np.array([0, 0, 1, 1]),
        np.array([1.0, 0.3]),
        np.zeros(2),
        choices.REGRET,
        choices.MOVE,
    )
    logs = np.array([0.3, -0.2])
    value, slope = cost(logs)
    assert np.isfinite(value)
    for i, step in enumerate(np.eye(2) * 1e-6):
        assert slope[i] == pytest.approx((cost(logs + step)[0] - cost(logs - step)[0]) / 2e-6, rel=1e-5)


def results(ratio: float) -> summary.Results:
    """One row a library as `run` saves it."""
    rows = [
        {
            "workload": "image 15",
            "library": library,
            "group": "image",
            "native_name": "own",
            "native": ratio,
            "auto": 1.0,
            "ratio": ratio,
            "share": 0.5,
            "peers": {"opencv": 2.0},
            "wrong": {},
            "algorithm": "direct",
            "workspace": 2**20,
            "scratch": None,
        }
        for library in ("numpy", "torch", "jax")
    ]
    head: dict[str, Any] = {
        "name": "some",
        "kind": "run",
        "created": "2000-01-01",
        "commit": "0" * 40,
        "machine": {"cpu": "CPU", "cores": 2, "caches": {"L2": "1M"}},
        "versions": {"python": "3"},
        "settings": {"accuracy": "elementwise", "quick": False},
        "ceilings": {"flops": 1e11, "bytes": 1e10},
        "others": 0.0,
    }
    return summary.collect([{**head, "rows": rows}])


def test_the_section_replaces_what_is_between_the_markers() -> None:
    section = report.section(results(20.0), "bench/results/some.svg")
    assert "| image 15 | 1.00 (20) | 1.00 (20) | 1.00 (20) | 2.00 (opencv) |" in section
    assert "| images, one channel | 20 | 20 | 20 |" in section
    text = report.replace_region(f"a\n{report.BEGIN}\nold\n{report.END}\nb\n", section)
    assert text.startswith(f"a\n{report.BEGIN}\n\nCommit `000000000000`") and text.endswith(f"{report.END}\nb\n")
    with pytest.raises(ValueError, match=r"README.md has no line '<!-- bench: begin -->' followed by"):
        report.replace_region("a", section)


def test_targets_say_met_or_by_how_much_missed() -> None:
    lines = targets.table(results(20.0)).splitlines()
    assert any("jax: mean of native / auto, images, one channel >= 15 " in line and " met " in line for line in lines)
    assert any("auto / OpenCV" in line and line.endswith("0.5") for line in lines)
    lines = targets.table(results(0.5)).splitlines()
    assert any("jax: auto <=" in line and "missed by 1.90x" in line and "image 15 2.00" in line for line in lines)
    assert any("images, one channel >= 15" in line and "missed by 30.00x" in line for line in lines)
    assert any("learn_kernel, 500 steps" in line and line.endswith("not measured") for line in lines)


def test_the_share_is_of_the_nearer_ceiling() -> None:
    ceilings = machine.Ceilings(flops=2e9, bytes=1e9)
    assert ceilings.share(10**6, 10**3, 1e-3) == pytest.approx(1.0)
    assert ceilings.share(10, 10**6, 1e-2) == pytest.approx(0.1)


@pytest.mark.parametrize("task", large_fit.FITS)
def test_large_fits_find_the_kernel(task: str, tmp_path: Path) -> None:
    images = Images(tmp_path, 300)
    images.make()
    large_fit.make_target(images)
    row = large_fit.fit(task, images)
    assert row["error"] < 1e-3
    assert min(row["peak_bytes"], row["sampled_bytes"]) > 0


def test_what_a_program_sends_is_read_from_its_text() -> None:
    text = """
      %a = f32[14,1024]{1,0} collective-permute(%x), channel_id=1, source_target_pairs={{0,1}}
      %b = (f16[3,2]{1,0}, pred[5]{0}) all-reduce(%y, %z), to_apply=%sum
      %c = bf16[] all-gather-start(%v), dimensions={0}
      %d = f32[9]{0} add(%p, %q)
    """
    assert hlo.sent(text) == [("all-gather", 1, 2), ("all-reduce", 11, 17), ("collective-permute", 14336, 57344)]


def test_a_device_of_a_larger_mesh_does_and_gets_the_same() -> None:
    """But for the border windows of the kernel's gradient, which a device at the edge of the image would not need."""
    rows = weak.measure()
    held = {(row["case"], row["result"], row["devices"]): row for row in rows}
    assert len(held) == len(rows) == 18
    for (case, result, count), row in held.items():
        one, two = held[case, result, 1], held[case, result, 2]
        assert row["operations"] == pytest.approx(one["operations"], rel=0.005)
        assert row["received_bytes"] == ({} if count == 1 else two["received_bytes"])
    edges = {"collective-permute": 14 * 1024 * 4}
    assert held["correlate, rows", "y", 4]["received_bytes"] == edges
    assert held["correlate, rows", "dk", 4]["received_bytes"] == edges | {"all-reduce": 15 * 15 * 4}
    assert held["conv, batch", "y", 4]["received_bytes"] == held["conv, batch", "dx", 4]["received_bytes"] == {}
    assert held["conv, batch", "dk", 4]["received_bytes"] == {"all-reduce": 64 * 64 * 9 * 4}


def test_rows_of_one_part_take_the_place_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "RESULTS", tmp_path)
    sink = data.Sink("scale", "scale", size=8)
    for task, figure in (("file", 1), ("tiny", 2)):
        sink.add({"task": task, "figure": figure})
    path = data.replace_rows("scale", "scale", [{"task": "tiny", "figure": 3}, {"task": "tiny", "figure": 4}])
    content = data.load(path)
    assert [(row["task"], row["figure"]) for row in content["rows"]] == [("file", 1), ("tiny", 3), ("tiny", 4)]
    assert content["size"] == 8 and content["created"] == sink.head["created"]
    assert set(content["later"]) == {"tiny"}
    fresh = data.load(data.replace_rows("new", "scale", [{"task": "weak"}]))
    assert fresh["rows"] == [{"task": "weak"}]


def test_a_report_is_of_results_that_no_price_was_fitted_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "RESULTS", tmp_path)
    head = {"created": "1", "settings": {"accuracy": "elementwise"}}
    row = {"workload": "fir 64", "library": "numpy", "above": 3.0}
    kinds = {"cpu": "run", "avx2-cpu": "run", "import": "import", "scale": "scale", "large-fit": "large-fit"}
    for name, kind in kinds.items():
        data.write(tmp_path / f"{name}.json", {**head, "kind": kind}, [row])
    for name in ("regret-numpy", "fit-numpy", "avx2-regret-numpy"):
        data.write(tmp_path / f"{name}.json", {**head, "kind": "regret"}, [{**row, "from": name}])
    found = summary.read_results([])
    assert found.above_numpy == 3.0
    assert [source["name"] for source in found.sources] == ["cpu"]
    assert [own["from"] for own in found.regrets["numpy"]] == ["regret-numpy"]
    assert summary.read_results(["fit-numpy"]).regrets["numpy"][0]["from"] == "fit-numpy"
    with pytest.raises(ValueError, match=r"no results in .*nothing\.json; make some with --save NAME"):
        summary.read_results(["nothing"])


@pytest.mark.parametrize(
    ("axis", "labels", "expected"),
    [
        (WindowDimension(9, 3), ("native", "gemm"), True),
        (WindowDimension(9, 3, low=30, high=30, window_dilation=30), ("native", "gemm"), False),
        (WindowDimension(9, 3, low=30, high=30, window_dilation=30), ("native", "auto trim/gemm"), True),
        (WindowDimension(9, 3, base_dilation=2), ("phases/gemm", "native"), False),
        (WindowDimension(9, 3, base_dilation=2), ("phases/gemm", "subpixel/native"), True),
    ],
)
def test_prices_are_fitted_where_every_rewrite_was_timed(
    axis: WindowDimension, labels: tuple[str, ...], expected: bool
) -> None:
    problem = planned.call_problem(Geometry(1, 1, 2, 2, (axis,)), "torch")
    assert fit.is_complete(problem, dict.fromkeys(labels, 1.0)) is expected


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8", "uint64"])
def test_arrays_of_a_draw_have_its_type(dtype: str) -> None:
    geometry = Geometry(2, 1, 3, 4, (WindowDimension(9, 2),))
    x, kernel = regret.make_arrays(planned.call_problem(geometry, "numpy", dtype), "numpy")
    assert (x.shape, x.dtype, kernel.shape, kernel.dtype) == (geometry.x_shape, dtype, geometry.kernel_shape, dtype)
    assert np.ptp(x.imag if "complex" in dtype else x) > 1


def test_prices_are_fitted_by_type() -> None:
    geometry, times = Geometry(2, 1, 3, 4, (WindowDimension(9, 2),)), {"gemm": 1e-3}
    rows = [(planned.call_problem(geometry, "numpy", dtype), times) for dtype in ("float32", "int64", "int8")]
    found = fit.by_table(rows)
    assert {name: [row[0].dtype for row in own] for name, own in found.items()} == {
        "numpy": ["float32"],
        "numpy integer": ["int64", "int8"],
    }
