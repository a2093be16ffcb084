"""Kernels of low rank: sums of products, as many as pay, taken where the bound holds tap by tap and nowhere else."""

from __future__ import annotations

import pickle
from fractions import Fraction
from functools import reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayconv as ac
from arrayconv.algorithms import separable
from arrayconv.algorithms.products import products
from arrayconv.testing import assert_within_bound

Kernel = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def outer(*vectors: Any) -> Kernel:
    return reduce(np.multiply.outer, [np.asarray(vector, float) for vector in vectors])


def gauss(taps: int, sigma: float) -> Kernel:
    place = np.arange(taps) - taps // 2
    values: Kernel = np.exp(-0.5 * (place / sigma) ** 2)
    return values / values.sum()


def delta(taps: int) -> Kernel:
    return np.eye(taps)[taps // 2]


def disk(taps: int) -> Kernel:
    place = (np.arange(taps) - taps // 2) ** 2
    return (np.add.outer(place, place) <= taps**2 / 4).astype(float)


def laplacian_of_gaussian(taps: int, sigma: float) -> Kernel:
    second = ((np.arange(taps) - taps // 2) ** 2 / sigma**2 - 1) * gauss(taps, sigma)
    return outer(second, gauss(taps, sigma)) + outer(gauss(taps, sigma), second)


def difference(sigma: float, *taps: int) -> Kernel:
    return outer(*[gauss(n, sigma) for n in taps]) - outer(*[gauss(n, 2 * sigma) for n in taps])


#: Kernels and their ranks; in three dimensions the products that are found.
KERNELS: dict[str, tuple[Kernel, int]] = {
    "unsharp": (2.5 * outer(delta(9), delta(11)) - 1.5 * outer(gauss(9, 1.5), gauss(11, 2)), 2),
    "two Gaussians": (outer(gauss(9, 1), gauss(9, 1)) + 0.1 * outer(gauss(9, 2), gauss(9, 3)), 2),
    "three": (sum(outer(gauss(15, s), gauss(15, s)) for s in (1, 2, 4)), 3),
    "difference": (difference(1.1, 11, 9), 2),
    "Laplacian": (laplacian_of_gaussian(9, 1.5), 2),
    "plus": (np.maximum(outer(np.ones(7), delta(5)), outer(delta(7), np.ones(5))), 2),
    "disk": (disk(7), 3),
    "unsharp 3d": (2 * outer(delta(3), delta(5), delta(4)) - outer(gauss(3, 1), gauss(5, 1), gauss(4, 1)), 4),
    "difference 3d": (difference(1.3, 5, 4, 6), 4),
}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many products each call found, whatever pays; 0: none."""
    counts = list[int]()

    def look(kernel: Kernel, most: int, *rest: Any) -> Any:
        result = products(kernel, 6, *rest)
        counts.append(len(result or ()))
        return result

    monkeypatch.setattr(separable, "products", look)
    return counts


def make(name: str) -> Any:
    return torch.tensor if name == "torch" else np.asarray


OPTIONS: list[dict[str, Any]] = [
    {"padding": "same"},
    {"stride": 2, "dilation": 2, "padding": 7, "boundary": "reflect"},
]


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("case", KERNELS)
def test_sums_run_as_passes(found: list[int], case: str, dtype: str, name: str) -> None:
    kernel, rank = KERNELS[case]
    x = RNG.standard_normal([n + 13 // kernel.ndim for n in kernel.shape])
    if "complex" in dtype:
        x, kernel = x + 1j * x[::-1], kernel * (0.6 - 0.8j)
    own = make(name)(x.astype(dtype)), make(name)(kernel.astype(dtype))
    for options in OPTIONS:
        y = ac.correlate(*own, algorithm="separable", **options)
        assert_within_bound(y, *own, op="correlate", **options)
    assert found == [rank, rank]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", KERNELS)
def test_the_worst_image_keeps_the_bound(found: list[int], case: str, dtype: str) -> None:
    """One that is large only where terms cancel: at the smallest taps, or the zeros, beside the terms."""
    kernel, _ = KERNELS[case]
    kernel = kernel.astype(dtype)
    order = np.argsort(np.abs(kernel), axis=None)
    for count in (1, 4, 20):
        x = np.zeros(kernel.size, dtype)
        x[order[:count]] = 1 + RNG.random(count)
        x = x.reshape(kernel.shape)
        y = ac.correlate(x, kernel, algorithm="separable")
        assert_within_bound(y, x, kernel, op="correlate")
    assert all(found)


def nearly_zero(value: float) -> tuple[Kernel, tuple[int, int]]:
    """Rank 2 to the last bit of float32, and a place where its terms cancel but for ``value``."""
    a, b, c, d = (RNG.integers(3, 9, n).astype(float) for n in (9, 9, 9, 9))
    a[3] = b[5] = c[3] = 1
    d[5] = value - 1
    return (outer(a, b) + outer(c, d)).astype("float32"), (3, 5)


@pytest.mark.parametrize("value", [0.0, 2.0**-20, -(2.0**-12)])
def test_terms_that_cancel_are_left_to_the_other_program(found: list[int], value: float) -> None:
    kernel, place = nearly_zero(value)
    x = np.zeros((9, 9), "float32")
    x[place] = np.float32(np.pi)
    y = ac.correlate(x, kernel, algorithm="separable")
    assert_within_bound(y, x, kernel, op="correlate")
    with ac.settings(accuracy="normwise"):
        y = ac.correlate(x, kernel, algorithm="separable")
    assert_within_bound(y, x, kernel, op="correlate", accuracy="normwise")
    assert found == [0, 2]


def test_doubles_may_cancel(found: list[int]) -> None:
    """The second term of the bound pays for it."""
    kernel, place = nearly_zero(2.0**-20)
    x = RNG.standard_normal((9, 9)) * 1e-3
    x[place] = np.pi
    y = ac.correlate(x, kernel.astype(float), algorithm="separable")
    assert_within_bound(y, x, kernel, op="correlate")
    assert found == [2]


@pytest.mark.parametrize("accuracy", ["elementwise", "normwise"])
def test_what_is_left_out_is_of_the_size_of_roundings(accuracy: str) -> None:
    """A third product of 1e-8 of the largest tap is a rounding there; where the taps are as small, it is not."""
    kernel = (2 * outer(delta(9), delta(9)) - outer(gauss(9, 1.5), gauss(9, 1.5))).astype("float32")
    bump = outer(np.eye(9)[1], np.eye(9)[7])
    for steps, rank in ((0, 2), (1, 2), (100, None if accuracy == "elementwise" else 2), (1e6, None)):
        own = (kernel * (1 + steps * 2.0**-23 * bump)).astype("float32")
        parts = products(own, 2, 0, "float32", accuracy)
        assert (parts and len(parts)) == rank


def test_no_more_products_than_pay() -> None:
    kernel = KERNELS["three"][0].astype("float32")
    assert [len(products(kernel, n, 0, "float32", "elementwise") or ()) for n in (1, 2, 3, 4)] == [0, 0, 3, 3]
    volume = KERNELS["difference 3d"][0]
    assert [len(products(volume, n, 1, "float64", "elementwise") or ()) for n in (1, 3, 4, 8)] == [0, 0, 4, 4]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_of_any_size(found: list[int], dtype: str) -> None:
    """Taps that underflow, overflow when subtracted, or span the whole range, and images as large as they may be."""
    largest, smallest = float(np.finfo(dtype).max), float(np.finfo(dtype).smallest_subnormal)
    spread = np.logspace(0, np.log10(largest) / 2.1, 9)
    kernels = {
        "subnormal": difference(1.1, 9, 9) * smallest * 2.0**10,
        "huge": 1e-3 * np.where(RNG.random((9, 9)) < 0.5, -0.99, 0.99) * largest,
        "spread": outer(spread, 1 / spread) + outer(1 / spread, spread),
        "spread far": outer(spread, spread) + outer(1 / spread, 1 / spread),
    }
    for kernel in kernels.values():
        kernel = kernel.astype(dtype)
        x = RNG.standard_normal((20, 20)).astype(dtype)
        with np.errstate(all="ignore"):
            assert_within_bound(ac.correlate(x, kernel, algorithm="separable"), x, kernel, op="correlate")
    kernel = KERNELS["unsharp"][0].astype(dtype)
    x = np.full((20, 20), largest / 8, dtype)
    with np.errstate(all="ignore"):
        assert_within_bound(ac.correlate(x, kernel, algorithm="separable"), x, kernel, op="correlate")


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(found: list[int], bad: float, name: str) -> None:
    kernel = KERNELS["unsharp"][0].astype("float32")
    x = RNG.standard_normal((30, 40)).astype("float32")
    x[17, 22] = x[0, 39] = bad
    with np.errstate(invalid="ignore"):
        y = ac.correlate(make(name)(x), make(name)(kernel), padding="same", algorithm="separable")
        assert_within_bound(y, x, kernel, op="correlate", padding="same")
        kernel[4, 5] = bad
        y = ac.correlate(make(name)(x), make(name)(kernel), algorithm="separable")
        assert found == [2, 0] and not np.isfinite(np.asarray(y)).any()


def test_sums_that_overflow_apart_run_otherwise(found: list[int]) -> None:
    """A column of 5e38 in a product, which float32 can't hold, and 0.4 of it in the kernel."""
    kernel = outer(np.ones(3), np.ones(3))
    kernel[:2, :2] = 0.4
    x = np.zeros((3, 3), "float32")
    x[:2, 0] = 2.5e38
    with np.errstate(over="ignore"):
        y = ac.correlate(x, kernel.astype("float32"), algorithm="separable")
    np.testing.assert_allclose(y, 2e38, rtol=1e-6)
    assert found == [2]


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_gradients(found: list[int], name: str) -> None:
    kernel = KERNELS["difference"][0]
    x, dy = RNG.standard_normal((30, 31)), RNG.standard_normal((30, 31))
    own = make(name)(x), make(name)(kernel)
    _, pullback = ac.vjp(ac.correlate, *own, padding="same", algorithm="separable")
    dx, _ = pullback(make(name)(dy))
    assert found[:2] == [2, 2]
    assert_within_bound(dx, dy, kernel[::-1, ::-1], op="correlate", padding="same")
    if name == "torch":
        image = torch.tensor(x[:14, :14], requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: ac.correlate(x, own[1], algorithm="separable"), image)


def test_tiles(found: list[int]) -> None:
    kernel = KERNELS["unsharp"][0].astype("float32")
    x = RNG.standard_normal((2, 1, 40, 44)).astype("float32")
    with ac.settings(workspace=2**15):
        y = ac.conv(x, kernel[None, None], padding=3, algorithm="separable")
    assert_within_bound(y, x, kernel[None, None], op="conv", padding=3)
    assert found == [2]


# How many pay


def test_the_plan_says_how_many_pay() -> None:
    plan = ac.plan(ac.correlate, (96, 96, 96), (9, 9, 9), padding="same")
    assert 2 <= plan.program.rank <= separable.MOST
    assert f"separable up to rank {plan.program.rank}, else " in str(plan)
    assert pickle.loads(pickle.dumps(plan.program)).rank == plan.program.rank
    assert ac.plan(ac.correlate, (40, 40), (5, 5), algorithm="separable").program.rank == 1
    assert ac.plan(ac.correlate, (40, 40), (5, 5)).program.rank == 1


def test_a_sum_that_pays_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    blur = gauss(9, 2)
    kernel = (2 * outer(delta(9), blur, delta(9)) - outer(blur, blur, blur)).astype("float32")
    x = RNG.standard_normal((96, 96, 96)).astype("float32")
    expected = ac.correlate(x, kernel, padding="same", algorithm="fft")

    def refuse(*_: Any) -> None:
        raise AssertionError("the kernel was not taken as a sum")

    monkeypatch.setattr(separable, "run", refuse)
    np.testing.assert_allclose(ac.correlate(x, kernel, padding="same"), expected, atol=2e-5)


# What is taken, by arithmetic without roundings


ENTRY = st.sampled_from([0.0, 1, -1, 2, 3, -5, 2.0**-20, 1 + 2.0**-23, 1e-3, 1e30, -1e-30])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]), rank=st.integers(1, 3))
def test_what_is_taken_keeps_the_bound_for_any_image(data: Any, dtype: str, rank: int) -> None:
    """Errors of inner products are at most those of their magnitudes times half an eps a term (Higham 2002)."""
    shape = data.draw(st.sampled_from([(3, 4), (5, 3), (2, 3, 3)]))
    sums = [[data.draw(st.lists(ENTRY, min_size=n, max_size=n)) for n in shape] for _ in range(rank)]
    with np.errstate(all="ignore"):
        kernel = sum(outer(*vectors) for vectors in sums).astype(dtype)
    first = data.draw(st.integers(0, len(shape) - 1))
    parts = products(kernel, 4, first, dtype, "elementwise")
    if parts is None:
        return
    eps, eps64 = Fraction(float(np.finfo(dtype).eps)), Fraction(float(np.finfo("float64").eps))
    excess, total = Fraction(0), Fraction(0)
    for place in product(*map(range, shape)):
        terms = [prod(Fraction(float(v[i])) for v, i in zip(part, place, strict=True)) for part in parts]
        tap, growth = Fraction(float(kernel[place])), sum(map(abs, terms))
        error = abs(tap - sum(terms)) + (sum(shape) + len(parts)) * eps / 2 * growth
        excess += max(Fraction(0), error - 2 * kernel.size * eps * abs(tap))
        total += abs(tap)
    assert excess <= 8 * eps64 * total
