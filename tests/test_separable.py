"""Kernels that are products of one-dimensional factors: found exactly, run as passes, and nothing else is."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.autograd import forward_ad

import arrayconv as ac
from arrayconv.algorithms import separable
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, make_problem
from arrayconv.testing import assert_within_bound

if TYPE_CHECKING:
    from conftest import Library

RNG = np.random.default_rng(0)
EPS = float(np.finfo("float32").eps)
LARGE = (512, 512)


def gauss(*window: int) -> np.ndarray[Any, Any]:
    """Tails down to 1e-8 of the peak, and lower in the corners."""
    return reduce(np.multiply.outer, [np.exp(-18.0 * (np.linspace(-1, 1, n) + 0.1) ** 2) for n in window])


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype("float32")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[separable.Pass]:
    """The passes that ran; a kernel that is not taken as a product is an error."""
    done = list[separable.Pass]()
    plain = separable.banded

    def banded(backend: Any, x: Any, matrix: Any, step: separable.Pass, length: int) -> Any:
        done.append(step)
        return plain(backend, x, matrix, step, length)

    def refuse(*_: Any) -> None:
        raise AssertionError("the kernel was not taken as a product")

    monkeypatch.setattr(separable, "banded", banded)
    monkeypatch.setattr(separable, "run", refuse)
    return done


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms that ran in the place of passes; a pass is an error."""
    done = list[str]()
    plain = separable.run

    def run(program: Any, *arrays: Any) -> Any:
        done.append(program.algorithm)
        return plain(program, *arrays)

    def refuse(*_: Any) -> None:
        raise AssertionError("a pass ran")

    monkeypatch.setattr(separable, "run", run)
    monkeypatch.setattr(separable, "banded", refuse)
    return done


# Products


CALLS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((40, 50), (7, 5), {"padding": "same"}),
    ((40, 50), (40, 50), {}),
    ((2, 30), (2, 9), {"stride": (1, 7)}),
    ((33, 41), (4, 6), {"stride": (2, 3), "dilation": (3, 2), "padding": ((5, 2), (0, 7))}),
    ((33, 41), (4, 6), {"padding": ((-5, 2), (3, -7))}),
    ((33, 41), (3, 3), {"padding": "same", "boundary": "reflect"}),
    ((12, 14, 16), (3, 4, 5), {"padding": 2, "stride": (2, 1, 3)}),
    ((5, 14, 16), (1, 4, 5), {"stride": (2, 1, 1)}),
    ((6, 7, 8, 9), (2, 3, 1, 2), {"padding": "same"}),
]


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(("shape", "window", "options"), CALLS, ids=str)
def test_products_run_as_passes(
    passes: list[separable.Pass], shape: Any, window: Any, options: Any, dtype: str, name: str
) -> None:
    x, kernel = RNG.standard_normal(shape), gauss(*window)
    if "complex" in dtype:
        x, kernel = x + 1j * RNG.standard_normal(shape), kernel * (0.6 - 0.8j)
    make: Any = torch.tensor if name == "torch" else np.asarray
    own = make(x.astype(dtype)), make(kernel.astype(dtype))
    y = ac.correlate(*own, algorithm="separable", **options)
    assert_within_bound(y, *own, op="correlate", **options)
    strides = np.broadcast_to(options.get("stride", 1), len(shape))
    axes = {i for i, (n, step) in enumerate(zip(window, strides, strict=True)) if n > 1 or step > 1}
    assert {step.place for step in passes} == axes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_summed_in_single(passes: list[separable.Pass], dtype: str) -> None:
    """A product that half precision holds exactly: binomial taps."""
    x = torch.tensor(normal(30, 200)).to(getattr(torch, dtype))
    kernel = torch.tensor(np.multiply.outer([1, 4, 6, 4, 1], [1, 3, 3, 1]) / 128).to(x.dtype)
    y = ac.correlate(x, kernel, padding="same", algorithm="separable")
    assert y.dtype == x.dtype and passes
    assert_within_bound(y, x, kernel, op="correlate", padding="same")


def test_batches_and_tiles(passes: list[separable.Pass]) -> None:
    """A small workspace cuts everything."""
    x, kernel = normal(3, 1, 60, 70), gauss(5, 9)[None, None].astype("float32")
    with ac.settings(workspace=2**14):
        plan = ac.plan(ac.conv, x, kernel, padding=3, algorithm="separable")
        y = ac.conv(x, kernel, padding=3, algorithm="separable")
    assert plan.program.block[0] == 1 and plan.program.block[1:] < y.shape[2:]
    assert_within_bound(y, x, kernel, op="conv", padding=3)
    assert len(passes) >= 12


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_windows(passes: list[separable.Pass], bad: float, name: str) -> None:
    x, kernel = normal(40, 60), gauss(3, 7).astype("float32")
    kernel[:, 2] = 0
    x[17, 22] = x[0, 59] = bad
    make: Any = torch.tensor if name == "torch" else np.asarray
    options: dict[str, Any] = {"padding": "same", "algorithm": "separable"}
    assert_within_bound(ac.correlate(make(x), make(kernel), **options), x, kernel, op="correlate", **options)
    assert passes


def test_large_numbers_meet_small_taps(passes: list[separable.Pass]) -> None:
    """A pass with taps of about one first would overflow."""
    x = np.full((20, 20), 1e38, "float32")
    for kernel in (np.full((9, 5), 1e-3), np.full((5, 9), 1e-3)):
        kernel = kernel.astype("float32")
        y = ac.correlate(x, kernel, algorithm="separable")
        assert_within_bound(y, x, kernel, op="correlate", algorithm="separable")
        assert np.isfinite(y).all()


def test_any_memory_layout(passes: list[separable.Pass]) -> None:
    """Strided, reversed and transposed views, which matrix products would take one by one."""
    whole, kernel = normal(36, 40), gauss(4, 5).astype("float32")
    for x in (whole[::2, ::-3], whole.T, np.asfortranarray(whole), np.broadcast_to(whole[:1], whole.shape)):
        for own in (kernel, kernel[::-1, ::-1], kernel.T):
            assert_within_bound(ac.correlate(x, own, algorithm="separable"), x, own, op="correlate")


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_gradients_are_passes_too(passes: list[separable.Pass], name: str) -> None:
    x, kernel, options = normal(30, 41), gauss(5, 7).astype("float32"), {"padding": 2, "dilation": (1, 2)}
    make: Any = torch.tensor if name == "torch" else np.asarray
    y, pullback = ac.vjp(ac.correlate, make(x), make(kernel), algorithm="separable", **options)
    before, dy = len(passes), np.multiply.outer(*(normal(n) for n in y.shape)).astype("float32")
    dx, dk = pullback(make(dy))
    assert len(passes) == before + 4
    wide = torch.tensor(x.astype(float), requires_grad=True), torch.tensor(kernel.astype(float), requires_grad=True)
    exact = torch.nn.functional.conv2d(*(part[None, None] for part in wide), **options)
    exact.backward(torch.tensor(dy.astype(float))[None, None])
    np.testing.assert_allclose(dx, wide[0].grad, atol=1e-5)
    np.testing.assert_allclose(dk, wide[1].grad, atol=1e-3)


def test_a_recorded_image_has_its_gradients(passes: list[separable.Pass]) -> None:
    kernel = torch.tensor(gauss(4, 3))
    x = torch.tensor(RNG.standard_normal((9, 10)), requires_grad=True)

    def call(x: Any) -> Any:
        return ac.correlate(x, kernel, padding=1, stride=(1, 2), algorithm="separable")

    assert torch.autograd.gradcheck(call, x) and torch.autograd.gradgradcheck(call, x) and passes
    x = torch.tensor(RNG.standard_normal((21, 60)), requires_grad=True)
    with ac.settings(workspace=2**14):
        program = ac.plan(ac.correlate, x, kernel, padding=1, stride=(1, 2), algorithm="separable").program
        assert program.block[1:] < program.geometry.out and torch.autograd.gradcheck(call, x, fast_mode=True)


# The choice


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize(("shape", "window"), [(LARGE, (31, 31)), ((64, 64, 64), (7, 7, 7))])
def test_chosen_for_a_gaussian(passes: list[separable.Pass], shape: Any, window: Any, name: str) -> None:
    x, kernel = normal(*shape), gauss(*window).astype("float32")
    make: Any = torch.tensor if name == "torch" else np.asarray
    plan = ac.plan(ac.correlate, shape, window, padding="same", library=name)
    assert plan.algorithm == "separable"
    other = plan.program.otherwise.algorithm
    rank = plan.program.rank
    assert f"  algorithm      separable up to rank {rank}, else {other}\n" in str(plan)
    y = ac.correlate(make(x), make(kernel), padding="same")
    assert passes
    np.testing.assert_allclose(y, ac.correlate(x, kernel, padding="same", algorithm="gemm"), atol=1e-4)


def test_the_other_program_is_the_best_without_this_one() -> None:
    names = []
    for algorithm in ("auto", "separable"):
        program = ac.plan(ac.correlate, LARGE, (31, 31), padding="same", algorithm=algorithm).program
        rows = str(ac.plan(ac.correlate, LARGE, (31, 31), padding="same")).split("estimate\n")[1].splitlines()
        assert rows[0].split()[:2] == ["*", "separable"] and rows[1].split()[0] == program.otherwise.algorithm
        assert program.workspace == max(
            ac.plan(ac.correlate, LARGE, (31, 31), padding="same", algorithm=name).program.workspace
            for name in ("separable", rows[1].split()[0])
        )
        names.append(program.otherwise.algorithm)
    assert names[0] == names[1]


REASONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = [
    ((2, 2, 9, 9), (2, 2, 3, 3), {}, "one channel in and one out"),
    ((2, 1, 9, 9), (2, 1, 3, 3), {}, "one channel in and one out"),
    ((1, 1, 9, 9), (1, 1, 3, 1), {}, "fewer than two axes have several taps"),
    ((1, 1, 9), (1, 1, 3), {}, "fewer than two axes have several taps"),
    ((1, 1, 9, 9), (1, 1, 3, 3), {"dtype": "int32"}, "factors of integers"),
    ((1, 1, 9, 9), (1, 1, 3, 3), {"library": "jax"}, "reads the kernel's values, which jax does not show"),
    ((1, 1, 9, 9), (1, 1, 3, 3), {"library": "dask"}, "reads the kernel's values, which dask does not show"),
    ((1, 1, 9, 9), (1, 1, 3, 3), {"library": "torch", "device": "cuda"}, "which torch on cuda does not show"),
]


@pytest.mark.parametrize(("x", "kernel", "options", "reason"), REASONS, ids=range(len(REASONS)))
def test_what_it_does_not_serve(x: Any, kernel: Any, options: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"'separable' can't serve this call: .*{reason}.*; use algorithm='auto'"):
        ac.plan(ac.conv, x, kernel, algorithm="separable", **options)


@pytest.mark.parametrize(("taps", "workspace"), [(31, 2**12), (3, 2**11)])
def test_a_workspace_that_is_too_small(taps: int, workspace: int) -> None:
    with ac.settings(workspace=workspace), pytest.raises(ValueError, match=r"one window and the kernel take \d+ bytes"):
        ac.plan(ac.correlate, (90, 90), (taps, taps), algorithm="separable")


@given(axes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4)), min_size=2, max_size=3))
def test_a_window_takes_no_more_than_the_quick_look_at_it(axes: list[tuple[int, int, int]]) -> None:
    """Taps, strides and dilations."""
    assume(sum(taps > 1 for taps, _, _ in axes) > 1)
    window = [WindowDimension((taps - 1) * step + 1 + 9, taps, stride, 0, 0, step) for taps, stride, step in axes]
    numpy = library_backend("numpy")
    problem = make_problem(Geometry(1, 1, 1, 1, tuple(window)), "float32", numpy, "cpu", current_settings())
    held = separable.held(problem, numpy, (1,) * (1 + len(axes)))
    assert held <= separable.window_bytes(problem)


def test_blocks_of_a_dask_array(passes: list[separable.Pass]) -> None:
    import dask.array as da

    x, kernel = normal(1024, 1024), gauss(31, 31).astype("float32")
    y = ac.correlate(da.from_array(x, chunks=512), da.from_array(kernel, chunks=-1), padding="same").compute()
    assert passes
    np.testing.assert_allclose(y, ac.correlate(x, kernel, padding="same", algorithm="gemm"), atol=1e-4)


def test_jax_runs_as_before() -> None:
    x, kernel = normal(40, 40), gauss(5, 5).astype("float32")
    y = jax.jit(ac.correlate)(x, kernel)
    np.testing.assert_allclose(y, ac.correlate(x, kernel, algorithm="separable"), atol=1e-5)


# Kernels that are no products


def nearly(steps: float) -> np.ndarray[Any, Any]:
    """A product but for one small tap, off by ``steps`` of the type's eps."""
    kernel = np.multiply.outer([1.0, 2, 1], [2.0**-30, 1, 2.0**-30]).astype("float32")
    kernel[0, 0] *= np.float32(1 + steps * EPS)
    return kernel


def test_one_small_tap_decides(passes: list[separable.Pass]) -> None:
    """Rank one to 1e-9 by the singular values, at any number of steps."""
    for steps in (0, 1, 9):
        ac.correlate(normal(9, 9), nearly(steps), algorithm="separable")
    for steps in (11, 12, 1000):
        with pytest.raises(AssertionError, match="not taken as a product"):
            ac.correlate(normal(9, 9), nearly(steps), algorithm="separable")


def _with(place: tuple[int, int], value: float) -> np.ndarray[Any, Any]:
    kernel = gauss(5, 7).astype("float32")
    kernel[place] = value
    return kernel


NO_PRODUCTS = {
    "random": normal(5, 7),
    "one tap off": nearly(12),
    "a hole": _with((2, 3), 0),
    "zeros": np.zeros((5, 7), "float32"),
    "nan": _with((0, 0), np.nan),
    "inf": _with((2, 3), -np.inf),
    "tails below the smallest normal number": gauss(5, 7).astype("float32") * np.float32(1e-38),
    "sum of two": gauss(5, 7).astype("float32") + 1,
}


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("case", NO_PRODUCTS)
def test_others_take_the_other_program(other: list[str], case: str, name: str) -> None:
    x, kernel = normal(20, 31), NO_PRODUCTS[case]
    make: Any = torch.tensor if name == "torch" else np.asarray
    with np.errstate(invalid="ignore"):
        y = np.asarray(ac.correlate(make(x), make(kernel), padding="same", algorithm="separable"))
    assert len(other) == 1
    if np.isfinite(kernel).all():
        assert_within_bound(y, x, kernel, op="correlate", padding="same")
    else:
        assert not np.isfinite(y[5:-5, 5:-5]).any()


def test_a_zero_row_is_a_factor_s_zero(passes: list[separable.Pass]) -> None:
    x, kernel = normal(20, 31), gauss(5, 7).astype("float32")
    kernel[1] = kernel[:, 4] = 0
    assert_within_bound(ac.correlate(x, kernel, algorithm="separable"), x, kernel, op="correlate")
    assert passes


# Kernels whose values torch must not show


def test_a_recorded_kernel_has_its_gradient() -> None:
    """autograd records the call as a whole, so that its values may be read; dy is no kernel of low rank."""
    x, kernel = torch.tensor(normal(20, 20)), torch.tensor(gauss(3, 5), requires_grad=True)
    grads = []
    for algorithm in ("separable", "native"):
        y = ac.correlate(x.double(), kernel, algorithm=algorithm)
        grads.append(torch.autograd.grad(y.square().sum(), kernel)[0])
    torch.testing.assert_close(*grads)


def test_a_parameter_without_recording_is_read(passes: list[separable.Pass]) -> None:
    kernel = torch.nn.Parameter(torch.tensor(gauss(3, 5)))
    with torch.no_grad():
        ac.correlate(torch.tensor(normal(20, 20)).double(), kernel, algorithm="separable")
    assert passes


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_under_transforms(other: list[str]) -> None:
    xs, kernels = torch.tensor(normal(3, 12, 12)), torch.tensor(np.stack([gauss(3, 5)] * 3).astype("float32"))

    def call(x: Any, kernel: Any) -> Any:
        return ac.correlate(x, kernel, padding="same", algorithm="separable")

    expected = torch.stack(
        [ac.correlate(x, k, padding="same", algorithm="native") for x, k in zip(xs, kernels, strict=True)]
    )
    torch.testing.assert_close(torch.func.vmap(call)(xs, kernels), expected)
    torch.testing.assert_close(torch.func.vmap(call, (0, None))(xs, kernels[0]), expected)
    torch.testing.assert_close(torch.func.jvp(call, (xs[0], kernels[0]), (xs[0], kernels[0]))[1], 2 * expected[0])
    with forward_ad.dual_level():
        y = call(xs[0], forward_ad.make_dual(kernels[0], kernels[0]))
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, expected[0])
    assert len(other) == 4


def test_under_torch_compile(other: list[str]) -> None:
    x, kernel = torch.tensor(normal(12, 12)), torch.tensor(gauss(3, 5).astype("float32"))

    def call(x: Any, kernel: Any) -> Any:
        return ac.correlate(x, kernel, padding="same", algorithm="separable")

    expected = ac.correlate(x, kernel, padding="same", algorithm="native")
    torch.testing.assert_close(torch.compile(call, fullgraph=True, backend="eager")(x, kernel), expected)
    assert other


def test_where_it_is_chosen_it_is_right_by_every_library(library: Library) -> None:
    library.check(ac.correlate, normal(40, 30), gauss(3, 5).astype("float32"), algorithm="separable", padding="same")
    library.check(ac.correlate, normal(40, 30), normal(3, 5), algorithm="separable", padding="same")
