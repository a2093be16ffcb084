"""The cost model: prices by kind of processor, library and type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import arrayconv as ac
from arrayconv import processor
from arrayconv.algorithms import ALGORITHMS, rates
from arrayconv.algorithms.fitted import SECONDS
from arrayconv.algorithms.fitted_types import SECONDS as TYPES
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, make_problem, options
from arrayconv.program import Problem


def test_every_kind_of_work_has_a_price() -> None:
    """On geometries of every kind, for every library and type."""
    axes = [WindowDimension(20, 3), WindowDimension(20, 3, 2, 1, 1, 2), WindowDimension(9, 2, base_dilation=3)]
    dtypes, channels = ("float32", "float64", "complex64", "complex128", "int32"), ((1, 1), (1, 2), (4, 1), (2, 2))
    for library, dtype in product(("numpy", "torch", "jax"), dtypes):
        backend = library_backend(library)
        for (groups, inputs), axis, ndim in product(channels, axes, (1, 2, 3, 4)):
            geometry = Geometry(2, groups, inputs, 3, (axis,) * ndim)
            problem = make_problem(geometry, dtype, backend, "cpu", current_settings())
            for algorithm in ALGORITHMS.values():
                if algorithm.unsupported(problem, backend) is not None or algorithm.name == "empty":
                    continue
                units = algorithm.rates(problem, backend)
                assert set(algorithm.counts(problem, backend)) <= set(units), (library, dtype, algorithm.name)
                assert min(units.values()) > 0
                assert algorithm.cost(problem, backend) > 0


@pytest.mark.parametrize(
    ("vectors", "kind"),
    [
        ({"baseline": ["X86_V2"], "found": ["X86_V3", "X86_V4"]}, "avx512"),
        ({"baseline": ["SSE", "SSE2"], "found": ["AVX2", "AVX512F", "AVX512_SKX"]}, "avx512"),
        ({"baseline": ["X86_V4"]}, "avx512"),
        ({"baseline": ["X86_V2"], "found": ["X86_V3"], "not found": ["X86_V4", "AVX512_ICL"]}, "avx2"),
        ({"baseline": ["NEON"], "found": ["ASIMDHP"]}, "avx2"),
        ({}, "avx2"),
    ],
    ids=str,
)
def test_prices_are_those_of_the_processor_s_vectors(
    vectors: dict[str, list[str]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": vectors} if vectors else {})
    assert processor.vectors.__wrapped__() == kind


LINUX = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: 17\n"


@pytest.mark.parametrize(
    ("description", "vectors", "kind"),
    [
        (LINUX.format("AuthenticAMD", 25), "avx512", "zen4"),
        (LINUX.format("AuthenticAMD", 25), "avx2", "avx2"),  # Zen 3
        (LINUX.format("AuthenticAMD", 26), "avx512", "avx512"),  # Zen 5
        (LINUX.format("GenuineIntel", 6), "avx512", "avx512"),
        (LINUX.format("GenuineIntel", 25), "avx512", "avx512"),
        (None, "avx512", "zen4"),
    ],
    ids=str,
)
def test_wide_vectors_in_two_halves_are_a_kind_of_their_own(
    description: str | None, vectors: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux says in a file, or other systems where there is none."""
    monkeypatch.setattr(processor, "vectors", lambda: vectors)
    monkeypatch.setattr(processor, "DESCRIPTION", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "processor", lambda: "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD")
    if description is not None:
        (tmp_path / "cpuinfo").write_text(description, encoding="utf-8")
    assert processor.processor.__wrapped__() == kind
    assert kind in rates.PROCESSORS


@pytest.fixture(params=rates.PROCESSORS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A kind of processor that this machine is taken to be."""
    monkeypatch.setattr(rates, "processor", lambda: request.param)
    rates._rates.cache_clear()
    yield request.param
    rates._rates.cache_clear()


def layer(library: str, dtype: str) -> Problem:
    geometry = Geometry(2, 1, 64, 64, (WindowDimension(40, 3), WindowDimension(40, 3)))
    return make_problem(geometry, dtype, library_backend(library), "cpu", current_settings())


@pytest.mark.parametrize(
    ("library", "dtype", "name"),
    [
        ("numpy", "uint8", "numpy integer"),
        ("torch", "int64", "torch integer"),
        ("torch", "float64", "torch float64"),
        ("torch", "complex128", "torch complex"),
    ],
)
def test_types_of_other_loops_have_some_prices_of_their_own(library: str, dtype: str, name: str, kind: str) -> None:
    """All at the library's pace on that kind of processor."""
    problem, pace = layer(library, dtype), rates.paces(kind, library)
    assert rates.table_of(library, rates.kind_of(problem)) == name
    expected = SECONDS[library]["gemm"] | TYPES[name]["gemm"]
    assert expected != SECONDS[library]["gemm"]
    assert rates.rates_of(problem, "gemm") == pytest.approx({unit: pace.of(unit) * p for unit, p in expected.items()})


def test_half_types_have_the_prices_of_float32() -> None:
    """In which they are summed."""
    assert rates.rates_of(layer("jax", "bfloat16"), "gemm") == rates.rates_of(layer("jax", "float32"), "gemm")


def test_a_processor_has_a_pace_for_products_and_one_for_all_else(kind: str) -> None:
    pace, base = rates.paces(kind, "torch"), rates.paces(rates.BASE, "torch")
    assert base == (1, 1)
    assert (pace.of("product"), pace.of("base dilated single")) == (pace.products, pace.products)
    assert (pace.of("call"), pace.of("base dilated column")) == (pace.others, pace.others)
    assert (pace.products > 1) == (pace.others > 1) == (kind != rates.BASE)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_work_that_another_algorithm_does_is_at_its_prices(library: str) -> None:
    """A folded correlation is the library's own convolution of several channels, or a matrix product; its own work is
    that of the fold.
    """
    backend, axis = library_backend(library), WindowDimension(40, 7)
    problem = make_problem(Geometry(2, 1, 1, 1, (axis, axis)), "float32", backend, "cpu", current_settings())
    own, inner = ALGORITHMS["toeplitz"].rates(problem, backend), "gemm" if library == "numpy" else "native"
    assert ALGORITHMS["toeplitz"].pricer(problem, backend, "band") == "toeplitz"
    assert ALGORITHMS["toeplitz"].pricer(problem, backend, "input") == inner
    lent = rates.rates_of(problem, inner)
    share = rates.own_share(library, "cpu", inner)  # of its own convolution, where that is what was asked for
    assert {unit: own[unit] * share for unit in lent if unit != "call"} == pytest.approx(
        {unit: price for unit, price in lent.items() if unit != "call"}
    )


def test_what_was_not_measured_has_the_prices_of_float32_of_numpy_or_of_torch() -> None:
    assert rates.rates_of(layer("numpy", "float64"), "gemm") == rates.rates_of(layer("numpy", "float32"), "gemm")
    assert rates.rates_of(layer("array_api_strict", "int32"), "gemm") == rates.rates_of(layer("numpy", "int32"), "gemm")
    assert rates.rates_of(layer("torch", "int32"), "trim") == rates.rates_of(layer("torch", "float32"), "trim")
    lent = rates.prices("numpy", "float32", "wgrad")
    assert lent == rates.prices("torch", "float32", "wgrad") == SECONDS["torch"]["wgrad"]


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_product_of_integers_costs_more(library: str) -> None:
    """No library has a fast one: several times as much as a product of floats."""
    gemm = ALGORITHMS["gemm"]
    costs = [gemm.cost(layer(library, dtype), library_backend(library)) for dtype in ("int32", "float32")]
    assert costs[0] > 2 * costs[1]


def test_loops_of_torch_that_copy_windows_are_not_chosen() -> None:
    """float64 and complex numbers have no oneDNN; an image filter there took up to 77 times as long as a transform."""
    for dtype in ("float64", "complex128"):
        program = ac.plan(ac.correlate, (1024, 1024), (31, 31), library="torch", dtype=dtype).program
        program = program.otherwise if program.algorithm == "separable" else program
        assert program.algorithm == "fft"


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("name", ["phases", "subpixel"])
def test_a_rewrite_is_its_own_work_and_its_parts_shares(library: str, name: str) -> None:
    """A part's estimate is the least of several: PyTorch's near ties go to its own convolution."""
    backend = library_backend(library)
    axis = WindowDimension(28, 4, low=1, high=1, base_dilation=2)
    problem = make_problem(Geometry(2, 1, 8, 8, (axis, axis)), "float32", backend, "cpu", current_settings())
    (row,) = (own for own in options(problem, backend) if own.name == name)
    own = [ALGORITHMS[part.algorithm].cost(part.problem, backend) for part in row.parts]
    assert own and not any(part.parts for part in row.parts)
    share = 1.3 if library == "torch" else 1.0
    assert row.seconds == pytest.approx(ALGORITHMS[name].cost(problem, backend) + share * sum(own))


def test_what_is_the_library_s_own_has_a_share(kind: str) -> None:
    """A correlation by torch's gradient of a kernel has one on an accelerator only, where it is the default."""
    pace = rates.paces(kind, "torch").of("call")
    problem = ac.plan(ac.conv, (2, 8, 9, 9), (8, 8, 9, 9), library="torch").program.problem
    for name, device, share in (("native", "cpu", 0.72), ("wgrad", "cpu", 1.0), ("wgrad", "cuda", 1e-4)):
        own = rates.rates_of(replace(problem, device=device), name)
        assert own["call"] == pytest.approx(share * pace * SECONDS["torch"][name]["call"])


@pytest.mark.parametrize(("channels", "side", "expected"), [(64, 56, "gemm"), (128, 28, "winograd")])
def test_near_ties_go_to_the_smaller_errors(channels: int, side: int, expected: str, kind: str) -> None:
    """Of NumPy's layers of 3 x 3 taps."""
    backend, axis = library_backend("numpy"), WindowDimension(side, 3, low=1, high=1)
    with ac.settings(accuracy="normwise"):
        problem = make_problem(
            Geometry(8, 1, channels, channels, (axis, axis)), "float32", backend, "cpu", current_settings()
        )
        rows = [row for row in options(problem, backend) if row.serves and row.name in ("gemm", "winograd")]
    assert min(rows, key=lambda row: row.seconds).name == expected
