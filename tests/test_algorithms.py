"""What single algorithms promise beside the table's tests: folds, residues, transforms in pieces, threads."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import signal

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS, fft_tiles, lags, reduce, subpixel, toeplitz
from arrayconv.algorithms.algorithm import ROUNDS, block_shape, budget_of, shared_block, tiles_of
from arrayconv.backend import library_backend
from arrayconv.backends.workers import Workers
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, derive, make_problem

if TYPE_CHECKING:
    from conftest import Library

RNG = np.random.default_rng(0)
REDUCING = ("jax", "torch")  # the libraries that `reduce` serves


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype("float32")


# Tiles


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(1, 5),
    st.sampled_from([1, 2, 4]),
)
@example([9, 20], 1, 60, 2, 1)  # three tiles of three rows, which no more rows make even
def test_tiles_are_shared_out_evenly_where_one_axis_can_be_cut(
    out: list[int], batch: int, room: int, count: int, whole: int
) -> None:
    """Whatever is cut, a tile's outputs stay neighbours: an axis is whole unless all before it are of one piece."""
    geometry = Geometry(batch, 1, 1, 1, tuple(WindowDimension(n, 1) for n in out))
    block = block_shape(geometry, 1, room)
    block = (block[0], *(min(n, -(-own // whole) * whole) for own, n in zip(block[1:], out, strict=True)))
    shared = shared_block(geometry, block, count, whole)
    pieces, before = tiles_of(geometry, shared), tiles_of(geometry, block)
    if shared == block:
        return
    assert before > 1 and before % count and before <= ROUNDS * count and pieces % count == 0
    (cut,) = (i for i, (n, own) in enumerate(zip(block, shared, strict=True)) if n != own)
    assert all(n <= (whole if i else 1) for i, n in enumerate(block[:cut]))
    assert 0 < shared[cut] < block[cut] and (not cut or shared[cut] % whole == 0)


def test_a_batch_of_three_pieces_is_cut_in_four_for_two_threads() -> None:
    geometry = Geometry(8, 1, 1, 1, (WindowDimension(10, 1),))
    assert shared_block(geometry, (3, 10), 2) == (2, 10)
    assert shared_block(geometry, (3, 10), 1) == shared_block(geometry, (3, 10), 3) == (3, 10)
    assert shared_block(geometry, (8, 10), 2) == (8, 10)  # one tile is left to the library's threads


# Toeplitz


@pytest.mark.parametrize("fold", [(1, 4), (16, 1), (4, 8), (1, 1)], ids=str)
@pytest.mark.parametrize("axis", [(9, 3), (12, 2, 3), (10, 3, 2, 1, 2, 2)], ids=str)
def test_a_band_holds_the_taps_on_shifted_diagonals(
    library: Library, axis: tuple[int, ...], fold: toeplitz.Fold
) -> None:
    """The folded correlation by the definition: every output of a block from the inputs of the block."""
    own = WindowDimension(*axis)
    geometry = Geometry(1, 1, 2, 3, (own, own))
    kernel = RNG.integers(-9, 9, geometry.kernel_shape).astype("float32")
    backend = library_backend(library.name)
    bands = library.to_numpy(toeplitz.band(backend, geometry, library.make(kernel), fold))
    assert bands.shape == toeplitz.folded(geometry, fold).kernel_shape
    bands = bands.reshape(3, *fold, *bands.shape[1:])
    expected = np.zeros_like(bands)
    for (i, j), (k, m) in product(np.ndindex(fold), np.ndindex(geometry.window)):
        row, column = (o * own.stride + t * own.window_dilation for o, t in ((i, k), (j, m)))
        place = (k if fold[0] == 1 else row, m if fold[1] == 1 else column)  # what is not folded stays as it is
        expected[:, i, j, :, *place] = kernel[:, :, k, m]
    np.testing.assert_array_equal(bands, expected)


@pytest.mark.parametrize("outputs", [1, 3, 15, 16, 17, 33])
def test_a_last_block_that_is_not_full(library: Library, outputs: int) -> None:
    library.check(ac.correlate, normal(5, outputs + 4), normal(2, 5), algorithm="toeplitz")
    library.check(ac.correlate, normal(outputs + 4, 5), normal(5, 2), algorithm="toeplitz")


@pytest.mark.parametrize("algorithm", ["toeplitz", "fft"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(library: Library, algorithm: str, bad: float) -> None:
    x = normal(2, 3, 20, 40)
    x[0, 1, 7, 19] = bad
    library.check(ac.conv, x, normal(4, 3, 3, 5), algorithm=algorithm, padding=((1, 0), (2, 3)), stride=(1, 2))


def test_a_zero_of_the_kernel_does_not_hide_an_infinity() -> None:
    """As in a sum of products: 0 * inf is NaN."""
    x = normal(6, 40)
    x[2, 20] = np.inf
    kernel = np.zeros((3, 3), "float32")
    for algorithm in ("direct", "toeplitz", "fft"):
        with np.errstate(invalid="ignore"):  # NumPy itself warns of 0 * inf
            y = ac.correlate(x, kernel, algorithm=algorithm)
        assert np.isnan(y[:3, 18:21]).all() and np.isfinite(y).sum() == y.size - 9


# Few outputs of a long window


@pytest.mark.parametrize("out", [(1,), (64,), (7, 7), (15, 15), (3, 13), (5, 5, 5), (2, 2, 12), (1, 26)])
def test_passes_hold_every_output_once(out: tuple[int, ...]) -> None:
    """In order, no pass larger than the limit, and none that starts within a short row of outputs."""
    geometry = Geometry(1, 1, 1, 1, tuple(WindowDimension(100, 101 - n) for n in out))
    passes = reduce.passes(geometry)
    starts = [tuple(part.start for part in place[1:]) for own in passes for place in own]
    assert starts == list(product(*map(range, out)))
    assert max(map(len, passes)) <= reduce.TOGETHER
    assert out[-1] > reduce.TOGETHER // 2 or all(len(own) % out[-1] == 0 for own in passes)


@pytest.mark.parametrize("taps", [1, reduce.ROW - 1, reduce.ROW, 2 * reduce.ROW + 5])
def test_rows_of_a_long_window(library: Library, taps: int) -> None:
    """Whole rows and what is left of the last; the sums of integers are exact."""
    for dilation, stride in ((1, 1), (2, 3)):
        x, kernel = RNG.integers(-9, 9, (2, 4, dilation * taps + 30)), RNG.integers(-9, 9, (6, 2, taps))
        options = {"groups": 2, "padding": ((3, -2),), "dilation": dilation, "stride": stride, "algorithm": "reduce"}
        assert library.check(ac.conv, x, kernel, **options) == (library.name in REDUCING)


def test_a_long_sum_is_not_one_long_chain() -> None:
    """A million terms that would stop counting at 2^24 in float32, were they added one by one to one number."""
    x, ones = jnp.full(2**20 + 7, 1000.0, "float32"), jnp.ones(2**20, "float32")
    np.testing.assert_allclose(ac.correlate(x, ones, algorithm="reduce"), np.full(8, 1000.0 * 2**20), rtol=2e-6)


def test_each_output_reads_its_own_window_only(library: Library) -> None:
    for shape in ((2100,), (60, 50)):
        x = normal(*shape)
        x.flat[0] = x.flat[-1] = np.nan
        window = tuple(n - 4 for n in shape)
        assert library.check(ac.correlate, x, normal(*window), algorithm="reduce") == (library.name in REDUCING)


def test_kernel_gradients_of_thin_layers_are_reductions() -> None:
    """Or transforms, where JAX has float64; and those of thick layers are neither."""
    thin = [
        ac.plan(ac.depthwise_conv, (8, 64, 56, 56), (64, 1, 3, 3), padding=1, library="jax"),
        ac.plan(ac.correlate, (96, 96, 96), (5, 5, 5), library="jax"),
        ac.plan(ac.correlate, (1024, 1024), (7, 7), library="jax"),
    ]
    thick = ac.plan(ac.conv, (8, 64, 56, 56), (64, 64, 3, 3), padding=1, library="jax")
    chosen = [derive(plan.program, plan.program.geometry.kernel_transpose()).algorithm for plan in thin]
    assert chosen[0] == "reduce" and set(chosen) <= {"reduce", "lags", "fft"}
    assert derive(thick.program, thick.program.geometry.kernel_transpose()).algorithm not in ("reduce", "lags", "fft")


def test_padded_images_stay_within_the_workspace() -> None:
    shapes = (16, 1, 300, 300), (1, 1, 298, 298)
    with ac.settings(workspace=2**22):
        program = ac.plan(ac.conv, *shapes, padding=1, library="jax", algorithm="reduce").program
    assert program.block[0] < 16 and 0 < program.workspace <= 2**22


# Lags


@pytest.mark.parametrize(("piece", "part"), [(1, 1), (30, 100), (2**16, 2**21)])
@pytest.mark.parametrize("sizes", [(90,), (14, 17), (6, 9, 10)], ids=str)
def test_lags_in_pieces_and_parts(
    library: Library, sizes: tuple[int, ...], piece: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strides, rows with holes, zeros around, groups and channels; a NaN in a corner stays there."""
    monkeypatch.setattr(lags, "PIECE", piece)
    monkeypatch.setattr(lags, "PART", part)
    lags.lags_of.cache_clear()
    x, kernel = normal(2, 6, *sizes), normal(3, 2, *[n // 2 - 1 for n in sizes])
    x[(0, 0, *[0] * len(sizes))] = np.nan
    options = {"groups": 3, "padding": 1, "stride": 2, "dilation": (2,) * (len(sizes) - 1) + (1,)}
    if library.name in ("numpy", "torch"):
        assert library.check(ac.conv, x, kernel, algorithm="lags", **options)
    lags.lags_of.cache_clear()


# The residues of a base dilation


@pytest.mark.parametrize(("stride", "taps"), [(2, 4), (3, 2), (5, 5), (4, 9)])
def test_residues_as_channels(library: Library, stride: int, taps: int) -> None:
    x, kernel = normal(2, 4, 7, 6), normal(4, 3, taps, 2)
    for padding, dilation in ((0, 1), (1, 2)):
        options = {"stride": (stride, 1), "padding": (padding, 0), "dilation": dilation}
        library.check(ac.conv_transpose, x, kernel, algorithm="subpixel", **options)


def test_a_place_without_a_tap_does_not_spread_a_nan(library: Library) -> None:
    x = normal(1, 1, 12)
    x[..., 5] = np.nan
    library.check(ac.conv_transpose, x, normal(1, 1, 3), stride=5, algorithm="subpixel")


def test_residues_that_meet_no_tap(library: Library) -> None:
    x = RNG.integers(-5, 5, (1, 1, 2, 2, 2))
    options = {"stride": 2, "dilation": (1, 1, 2), "padding": 1}
    library.check(ac.conv_transpose, x, np.full((1, 1, 1, 1, 1), -4), algorithm="subpixel", **options)


def test_merged_residues_are_those_of_the_phases() -> None:
    merged = subpixel.merge(WindowDimension(10, 5, low=3, high=3, base_dilation=2))
    assert merged.taps == ((1, 3, 5), (0, 2, 4))  # 5 stands for no tap
    assert (merged.axis.kernel, merged.axis.stride) == (3, 1)


# Transforms


@pytest.mark.usefixtures("small_transforms")
@pytest.mark.parametrize("shape", [(3000,), (700, 90), (40, 60, 50)])
def test_overlapping_blocks_meet(library: Library, shape: tuple[int, ...]) -> None:
    kernel = normal(*(5,) * len(shape))
    x = normal(*shape)
    program = ac.plan(ac.correlate, shape, kernel.shape, padding=1, library=library.name, algorithm="fft").program
    if library.name in ("numpy", "torch", "jax"):  # others have no tiles of their own
        assert tiles_of(program.geometry, program.block) > 4
    y = ac.correlate(library.asarray(x), library.asarray(kernel), padding=1, algorithm="fft")
    exact = signal.correlate(np.pad(x, 1).astype(float), kernel.astype(float), "valid", "direct")
    np.testing.assert_allclose(library.to_numpy(y), exact, atol=1e-4)


@pytest.mark.parametrize(("shape", "window"), [((1024, 1024), (1018, 1018)), ((1_000_000,), (998_977,))])
def test_a_long_window_is_transformed_once(shape: tuple[int, ...], window: tuple[int, ...]) -> None:
    """A tile an output would transform the whole image for each."""
    program = ac.plan(ac.correlate, shape, window, library="numpy", algorithm="fft").program
    assert program.block[1:] == program.geometry.out
    assert program.workspace <= program.problem.settings.workspace


@given(st.integers(1, 10**7))
def test_lengths_are_products_of_small_primes(n: int) -> None:
    for length in (fft_tiles.fast_length(n), fft_tiles.best_length(n)):
        assert n <= length <= max(1.4 * n, n + 3)
        for prime in (2, 3, 5):
            while length % prime == 0:
                length //= prime
        assert length == 1


def test_passes_of_two_are_worth_some_zeros() -> None:
    assert [fft_tiles.best_length(n) for n in (374, 405, 4000, 4096, 674)] == [384, 432, 4000, 4096, 720]
    assert [fft_tiles.fast_length(n) for n in (374, 405, 4000, 4096, 674)] == [375, 405, 4000, 4096, 675]


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_transforms_beyond_any_memory_say_so(name: str) -> None:
    """Also where their bytes are no machine integer."""
    backend = library_backend(name)
    axes = (WindowDimension(2**40, 2**39), WindowDimension(2**40, 2**39))
    problem = make_problem(Geometry(1, 1, 1, 1, axes), "float32", backend, "cpu", current_settings())
    reason = ALGORITHMS["fft"].unsupported(problem, backend)
    assert reason is not None and reason.startswith("the transforms of one window take ")
    long = ac.plan(ac.correlate, (2**62,), (3,), library=name, algorithm="fft").program
    assert 0 < long.workspace <= long.problem.settings.workspace


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_small_images_share_a_tile_and_large_ones_are_cut(name: str) -> None:
    """Calls are worth more than what a cache does not hold, and the other way around; each of NumPy's threads has as
    many channels as the others.
    """
    options: dict[str, Any] = {"library": name, "algorithm": "fft"}
    small = ac.plan(ac.conv, (6, 32, 20, 20), (32, 1, 5, 5), groups=32, **options).program
    assert tiles_of(small.geometry, small.block) < 32
    large = ac.plan(ac.correlate, (4000, 4000), (9, 9), **options).program
    assert tiles_of(large.geometry, large.block) > 4
    layer = ac.plan(ac.conv, (1, 256, 80, 80), (256, 1, 31, 31), groups=256, **options).program
    own = ALGORITHMS["fft"].groups
    assert own is not None
    share = own(layer.problem, library_backend(name), layer.block)
    assert share == 256 if name == "torch" else 256 > share > 2


def test_one_huge_element_spoils_nothing(library: Library) -> None:
    """In float32 its rounding would drown what lies in the same block."""
    x = normal(4000)
    x[2000] = 1e9
    library.check(ac.correlate, x, normal(64), algorithm="fft")


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int32"])
@pytest.mark.parametrize(
    ("a", "b"), [((3, 1), (1, 5)), ((1, 1), (1, 0)), ((2, 3, 1), (2, 1, 4)), ((3, 1), (2, 1, 4)), ((3, 0), (0, 4))]
)
def test_products_of_one_term_are_numpy_s(a: tuple[int, ...], b: tuple[int, ...], dtype: str) -> None:
    """And of none; in a buffer or without one."""
    left, right = ((9 * RNG.standard_normal(shape)).astype(dtype) for shape in (a, b))
    expected = np.matmul(left, right)
    own = library_backend("numpy").matmul
    out = np.full_like(expected, 7)
    assert own(left, right, out=out) is out
    for y in (out, own(left, right)):
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)


# Threads


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize(
    ("algorithm", "shapes", "options"),
    [
        ("toeplitz", ((1, 88, 12, 12, 6), (176, 8, 8, 8, 8)), {"groups": 11, "padding": ((4, 4), (4, 4), (7, 7))}),
        ("winograd", ((1, 470, 40, 40), (470, 470, 3, 3)), {}),
    ],
)
def test_threads_share_a_kernel_that_fills_half_of_the_workspace(
    algorithm: str, shapes: tuple[tuple[int, ...], ...], options: dict[str, Any], count: int
) -> None:
    """Taken from the share of each, it left none of it: pieces of one row, 2,000 of them."""
    backend = replace(library_backend("numpy"), multipliers=Workers(count))
    with ac.settings(accuracy="normwise"):
        problem = ac.plan(ac.conv, *shapes, algorithm=algorithm, **options).program.problem
    own = ALGORITHMS[algorithm]
    block = own.blocks(problem, backend, budget_of(problem))
    at_once, held = own.held(problem, backend, block)
    assert own.fixed(problem, backend, block) > problem.settings.workspace / 3
    assert tiles_of(problem.geometry, block) <= 256
    assert at_once == count
    assert held <= problem.settings.workspace


@pytest.mark.parametrize("padding", [(0, 6), (0, 7), (9, 0), (20, 20), ((1, 0), (8, 7))], ids=str)
@pytest.mark.parametrize("groups", [1, 4])
def test_wide_padding(library: Library, padding: Any, groups: int) -> None:
    if library_backend(library.name).native is not None:
        options = {"padding": padding, "groups": groups, "algorithm": "native"}
        library.check(ac.conv, normal(2, 4, 9, 11), normal(8, 4 // groups, 5, 9), **options)


# Choices


@pytest.mark.parametrize(("stride", "blocks"), [((1, 1), 9), ((1, 4), 7 * 2)])
def test_columns_are_copied_in_loops_over_two_axes(stride: tuple[int, int], blocks: int) -> None:
    """Of neighbouring places, for each tap; or of neighbouring taps for each place, where these lie apart."""
    axes = tuple(WindowDimension(9, 3, step) for step in stride)
    problem = make_problem(Geometry(1, 1, 1, 5, axes), "float32", library_backend("torch"), "cpu", current_settings())
    assert ALGORITHMS["gemm"].counts(problem, library_backend("torch"))["block"] == blocks


def test_an_accelerator_s_own_convolution_is_the_default_there() -> None:
    for shapes in (((1, 1, 1024, 1024), (1, 1, 7, 7)), ((8, 64, 56, 56), (64, 64, 3, 3))):
        assert ac.plan(ac.conv, *shapes, library="torch", device="cuda").algorithm == "native"


def test_a_thin_image_filter_is_not_left_to_a_slow_convolution() -> None:
    for library in ("torch", "jax"):
        program = ac.plan(ac.correlate, (1024, 1024), (7, 7), library=library).program
        program = program.otherwise if program.algorithm == "separable" else program
        assert program.algorithm in ("direct", "toeplitz")


def test_tiles_share_one_order_of_columns() -> None:
    """The last tile has fewer outputs than the window has taps; the others have more."""
    x, kernel = RNG.integers(-9, 9, (1, 1, 132)), RNG.integers(-9, 9, (33, 1, 33))
    for workspace in (6354, 12157, 2**20):
        with ac.settings(workspace=workspace):
            np.testing.assert_array_equal(ac.conv(x, kernel, algorithm="gemm"), ac.conv(x, kernel, algorithm="direct"))
