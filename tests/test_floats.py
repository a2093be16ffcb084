"""Integers computed as floats: where no sum rounds, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import arrayconv as ac
from arrayconv.algorithms import floats
from arrayconv.program import Program
from arrayconv.testing import problems, reference, wrap_integers

if TYPE_CHECKING:
    from conftest import Library

NumPyArray = np.ndarray[Any, Any]

RNG = np.random.default_rng(0)
IMAGE, WINDOW = (130, 140), (41, 41)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stood behind each look at values: "float64" sums, or the program in their place."""
    names: list[str] = []

    def run(program: Program, *rest: Any) -> Any:
        names.append(program.algorithm if program.problem.is_integer else program.problem.accumulator)
        return kept(program, *rest)

    kept = floats.run
    monkeypatch.setattr(floats, "run", run)
    return names


@pytest.mark.parametrize("algorithm", ["floats", "rounded", "auto"])
@pytest.mark.parametrize("name", ["correlate", "conv", "conv_transpose", "depthwise_conv"])
def test_random_calls_are_exact(library: Library, name: str, algorithm: str) -> None:
    """Elements as large as sums of them may be, and larger."""

    def check(drawn: tuple[Any, int]) -> None:
        call, bits = drawn
        arrays = [array << bits for array in (call.x, call.kernel)]
        options = call.options | {"algorithm": algorithm}
        try:
            y = getattr(ac, name)(*map(library.asarray, arrays), **options)
        except ValueError as error:
            assert f"algorithm={algorithm!r} can't serve this call: " in str(error)
            return
        expected = wrap_integers(reference(name, *arrays, **call.options), "int64")
        np.testing.assert_array_equal(np.asarray(y), expected)

    calls = problems(name, dtype="int64", max_ndim=2)
    library.for_all(st.tuples(calls, st.sampled_from((0, 10, 21, 24, 40))), check)


#: PyTorch's smaller unsigned types are computed in wider ones.
TYPES = {"numpy": ("int32", "int64", "uint32", "uint64"), "torch": ("int32", "int64")}


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, types in TYPES.items() for dtype in types])
def test_as_much_as_a_type_holds(name: str, dtype: str, ran: list[str]) -> None:
    """The largest sum may be just below the type's largest number, or 2^52."""
    most = min(2**52, int(np.iinfo(dtype).max))
    make: Any = torch.tensor if name == "torch" else np.asarray
    kernel = np.array([1, 2], dtype)
    for largest in ((most - 1) // 3, (most - 1) // 3 + 1):
        x = np.full(12, largest, dtype)
        y = ac.correlate(make(x), make(kernel), algorithm="floats")
        assert [int(n) for n in y] == wrap_integers(np.array([3 * largest] * 11, object), dtype).tolist()
        assert (ran.pop() == "float64") is (3 * largest < most)


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("algorithm", ["floats", "rounded"])
def test_small_types_wrap_in_the_end(name: str, dtype: str, algorithm: str, ran: list[str]) -> None:
    low, high = max(-(2**11), int(np.iinfo(dtype).min)), min(2**11, int(np.iinfo(dtype).max))
    x, kernel = RNG.integers(low, high, (30, 40)).astype(dtype), RNG.integers(low, high, (2, 3)).astype(dtype)
    y = ac.correlate(*((x, kernel) if name == "numpy" else map(torch.tensor, (x, kernel))), algorithm=algorithm)
    exact = reference("correlate", x, kernel)
    assert np.abs(exact).max() > np.iinfo(dtype).max
    np.testing.assert_array_equal(np.asarray(y), wrap_integers(exact, dtype))
    assert ran == ["float64"]


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_negative_numbers_count_by_their_size(name: str, ran: list[str]) -> None:
    make: Any = torch.tensor if name == "torch" else np.asarray
    x, kernel = np.array([-(2**31), 5, 2**30]), np.array([2**20, -(2**21)])
    y = ac.correlate(make(x), make(kernel), algorithm="floats")
    assert y.tolist() == [-(2**51) - 5 * 2**21, 5 * 2**20 - 2**51]
    assert len(ran) == 1 and ran != ["float64"]


@given(
    st.sampled_from(((64,), (3000,), (40, 50), (130, 90), (12, 13, 14))),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from(("spread", "positive", "ends")),
)
def test_transforms_err_less_than_the_bound(shape: tuple[int, ...], taps: int, seed: int, values: str) -> None:
    """By far: the bound is of the worst of arrays. Exact sums are Python's."""
    rng, most = np.random.default_rng(seed), 2**15
    low = 0 if values == "positive" else -most

    def draw(shape: tuple[int, ...]) -> NumPyArray:
        drawn = rng.integers(low, most, shape)
        return np.where(drawn < 0, -most, most) if values == "ends" else drawn

    x, kernel = draw(shape), draw((taps,) * len(shape))
    plan = ac.plan(ac.correlate, x.astype(float), kernel.astype(float), algorithm="fft")
    y = ac.correlate(x.astype(float), kernel.astype(float), algorithm="fft")
    exact = ac.correlate(x, kernel, algorithm="direct")
    sizes = floats.sizes_of(x, kernel[None, None])
    assert 4 * np.max(np.abs(y - exact)) <= floats.error(plan.program, plan.backend, sizes)


def test_what_transforms_can_t_round_is_left_to_products(ran: list[str]) -> None:
    """And what floats can't hold to those of integers, by the better of two ways that take all values."""
    program = ac.plan(ac.correlate, IMAGE, WINDOW, library="numpy", dtype="int64").program
    while program.otherwise is not None:
        program = program.otherwise
    assert program.algorithm in ("gemm", "direct")
    for bits, names in ((7, ["float64"]), (20, ["floats", "float64"]), (40, ["floats", program.algorithm])):
        x, kernel = (RNG.integers(-(2**bits), 2**bits, shape) for shape in (IMAGE, WINDOW))
        y = ac.correlate(x, kernel, algorithm="rounded")
        np.testing.assert_array_equal(y, ac.correlate(x, kernel, algorithm="direct"))
        assert ran == names
        ran.clear()


def test_a_plan_of_integers_has_three_ways() -> None:
    program = ac.plan(ac.correlate, (512, 512), (31, 31), dtype="int64").program
    assert program.algorithm == "rounded" and program.otherwise is not None
    assert program.otherwise.algorithm == "floats" and program.otherwise.otherwise is not None
    assert program.otherwise.otherwise.algorithm == "direct"
    line = "rounded of 1 (fft) while no sum rounds, else floats of 1 (diagonals) while no sum rounds, else direct\n"
    assert line in str(ac.plan(ac.correlate, (512, 512), (31, 31), dtype="int64"))


def test_images_are_computed_as_floats(ran: list[str]) -> None:
    """Pixels of 8 bits, in a type that holds their sums."""
    image, box = RNG.integers(0, 256, IMAGE).astype("uint8"), np.ones(WINDOW, "uint8")
    y = ac.correlate(image, box, dtype="int32")
    assert ran == ["float64"] and y.dtype == np.int32
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.int32), WINDOW)
    np.testing.assert_array_equal(y, windows.sum(axis=(2, 3), dtype=np.int32))


def test_hidden_values(ran: list[str]) -> None:
    x, kernel = torch.tensor(RNG.integers(-9, 9, (3, *IMAGE))), torch.tensor(RNG.integers(-9, 9, WINDOW))
    y = torch.func.vmap(lambda x: ac.correlate(x, kernel, algorithm="floats"))(x)
    assert ran == ["gemm"]
    for i in range(3):
        assert torch.equal(y[i], ac.correlate(x[i], kernel, algorithm="direct"))


def test_blocks_of_a_dask_array(ran: list[str]) -> None:
    x, kernel = RNG.integers(0, 9, IMAGE), RNG.integers(0, 9, WINDOW)
    y = ac.correlate(dask.array.from_array(x, chunks=(65, 140)), kernel)
    np.testing.assert_array_equal(y.compute(scheduler="sync"), ac.correlate(x, kernel, algorithm="direct"))
    assert set(ran) == {"float64"}


REASONS = [
    ({"dtype": "float32"}, "it is for sums of integers"),
    ({"library": "jax", "dtype": "int32"}, "it reads the arrays' values, which jax does not show"),
    ({"library": "torch", "dtype": "int32", "device": "cuda"}, "values, which torch on cuda does not show"),
]


@pytest.mark.parametrize("algorithm", ["floats", "rounded"])
@pytest.mark.parametrize(("options", "reason"), REASONS, ids=range(len(REASONS)))
def test_what_they_do_not_serve(options: Any, reason: str, algorithm: str) -> None:
    with pytest.raises(ValueError, match=f"{algorithm!r} can't serve this call: .*{reason}.*; use algorithm='auto'"):
        ac.plan(ac.correlate, (9, 9), (3, 3), algorithm=algorithm, **options)


def test_a_kernel_larger_than_the_workspace() -> None:
    with (
        ac.settings(workspace=2**12),
        pytest.raises(ValueError, match="a look at the kernel, and wider integers, take 15376 bytes"),
    ):
        ac.plan(ac.correlate, (90, 90), (31, 31), dtype="int64", algorithm="floats")


@pytest.mark.parametrize("algorithm", ["fft", "toeplitz", "lags"])
def test_what_is_named_may_be_what_floats_run_by(algorithm: str) -> None:
    x, kernel = RNG.integers(-99, 99, IMAGE), RNG.integers(-99, 99, WINDOW)
    program = ac.plan(ac.correlate, x, kernel, algorithm=algorithm).program
    assert [part.algorithm for part in program.parts] == [algorithm]
    y = ac.correlate(x, kernel, algorithm=algorithm)
    np.testing.assert_array_equal(y, ac.correlate(x, kernel, algorithm="direct"))
