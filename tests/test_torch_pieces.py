"""PyTorch's large calls: pieces that are written into one result, on pages that are asked for."""

from __future__ import annotations

import mmap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import arrayconv as ac
from arrayconv.algorithms import native, run, toeplitz, torch_counts
from arrayconv.algorithms.tiles import Tiling
from arrayconv.backend import library_backend
from arrayconv.backends import torch_pages
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, make_problem, make_program
from arrayconv.program import Problem, Program

BACKEND = library_backend("torch")


def problem_of(geometry: Geometry, dtype: str = "float32", device: str = "cpu") -> Problem:
    return make_problem(geometry, dtype, BACKEND, device, current_settings())


def program_of(geometry: Geometry, algorithm: str) -> Program:
    return make_program.__wrapped__(problem_of(geometry), BACKEND, algorithm)


def arrays_of(geometry: Geometry) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    shapes = geometry.x_shape, geometry.kernel_shape
    return [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes]


@st.composite
def cut_geometries(draw: st.DrawFn) -> tuple[Geometry, tuple[int, ...]]:
    """A convolution of any kind that PyTorch has, and the largest piece of it."""
    axes = []
    is_transposed = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        low, high = draw(st.integers(-1, 3)), draw(st.integers(-1, 3))
        stride, base = (1, draw(st.integers(1, 3))) if is_transposed else (draw(st.integers(1, 3)), 1)
        size = draw(st.integers((kernel - 1) * dilation + 3, 12))
        axes.append(WindowDimension(size, kernel, stride, low, high, dilation, base))
    channels = [draw(st.integers(1, 3)) for _ in range(3)]
    geometry = Geometry(draw(st.integers(1, 4)), *channels, tuple(axes))
    block = tuple(draw(st.integers(1, max(1, n))) for n in (geometry.batch, *geometry.out))
    return geometry, block


@given(cut_geometries())
def test_pieces_of_a_convolution_are_the_whole(drawn: tuple[Geometry, tuple[int, ...]]) -> None:
    geometry, block = drawn
    program = program_of(geometry, "native")
    x, kernel = arrays_of(geometry)
    pieces = run(replace(program, block=block), BACKEND, x, kernel)
    torch.testing.assert_close(pieces, run(program, BACKEND, x, kernel), rtol=1e-5, atol=1e-5)


#: Images, groups, channels in and out of each, an axis, and how many axes: copies and the result take over 64 MiB.
LARGE = {
    "images": (Geometry(40, 1, 64, 64, (WindowDimension(56, 3, 1, 1, 1),) * 2), (8, 56, 56)),
    "rows of an image": (Geometry(1, 1, 3, 64, (WindowDimension(512, 3),) * 2), (1, 73, 510)),
    "groups": (Geometry(32, 64, 1, 1, (WindowDimension(112, 3, 1, 1, 1),) * 2), (2, 112, 112)),
    "channels out of one": (Geometry(64, 1, 64, 1, (WindowDimension(112, 3, 1, 1, 1),) * 2), (5, 112, 112)),
    "one tap": (Geometry(32, 1, 64, 256, (WindowDimension(56, 1),) * 2), (2, 56, 56)),
    "signals": (Geometry(8, 1, 384, 384, (WindowDimension(3000, 3, 2, 1, 1),)), (2, 1500)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_calls_come_in_pieces(name: str) -> None:
    geometry, block = LARGE[name]
    assert program_of(geometry, "native").block == block
    assert native.block(problem_of(geometry), BACKEND, 0) == block
    less = replace(geometry, batch=1, axes=geometry.axes[:1] * geometry.ndim)
    less = replace(less, axes=tuple(replace(axis, size=56) for axis in less.axes))
    for problem in (problem_of(less), problem_of(geometry, device="cpu vmap"), problem_of(geometry, "float64")):
        assert native.block(problem, BACKEND, 0) == (problem.geometry.batch, *problem.geometry.out)
    counted = torch_counts.onednn_counts(problem_of(geometry))["fresh"]
    assert counted in (0, np.prod(geometry.y_shape))


@pytest.mark.parametrize("is_recorded", [False, True])
def test_a_large_call_has_torch_s_numbers(is_recorded: bool) -> None:
    """With a bias; and what autograd records is one call."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((40, 48, 64, 64), generator=generator).requires_grad_(is_recorded)
    kernel, bias = torch.randn((48, 1, 3, 3), generator=generator), torch.randn(48, generator=generator)
    options: dict[str, Any] = {"groups": 48, "padding": 1, "algorithm": "native"}
    assert ac.plan(ac.conv, x, kernel, **options).program.block[0] < 40
    y = ac.conv(x, kernel, bias, **options)
    torch.testing.assert_close(y, functional.conv2d(x, kernel, bias, 1, 1, 1, 48), rtol=1e-5, atol=1e-5)
    assert (y.grad_fn is not None and y.grad_fn.name() == "ConvolutionBackward0") == is_recorded


@pytest.mark.parametrize("name", ["direct", "gemm", "toeplitz", "fft", "native"])
def test_tiles_are_written_or_joined(name: str) -> None:
    """Into one result, unless something follows the arrays; that is one of equal numbers."""
    geometry = Geometry(2, 1, 2, 3, (WindowDimension(40, 3, 1, 2, 1), WindowDimension(30, 4)))
    x, kernel = arrays_of(geometry)
    program = replace(program_of(geometry, name), block=(1, 16, 27))
    y = run(program, BACKEND, x, kernel)
    torch.testing.assert_close(run(program, replace(BACKEND, is_writable=lambda x: False), x, kernel), y)
    for followed in ((x.clone().requires_grad_(), kernel), (x, kernel.clone().requires_grad_())):
        recorded = run(program, BACKEND, *followed)
        torch.testing.assert_close(recorded.detach(), y)
        (leaf,) = [array for array in followed if array.requires_grad]
        whole = functional.conv2d(functional.pad(followed[0], (0, 0, 2, 1)), followed[1])
        expected, found = (torch.autograd.grad(result.square().sum(), leaf)[0] for result in (whole, recorded))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("geometry", "fold"),
    [
        (Geometry(1, 1, 1, 1, (WindowDimension(1024, 3),) * 2), 16),
        (Geometry(1, 1, 1, 2, (WindowDimension(1024, 3),) * 2), 8),
        (Geometry(1, 1, 64, 3, (WindowDimension(128, 3),) * 2), 4),
        (Geometry(1, 1, 1, 1, (WindowDimension(96, 5),) * 3), 16),
        (Geometry(4, 1, 1, 1, (WindowDimension(100_000, 17),)), 16),
        (Geometry(1, 1, 1, 1, (WindowDimension(100_000, 64),)), 32),
    ],
    ids=["image", "two outputs", "three outputs", "volume", "signals", "a signal alone"],
)
def test_a_band_fills_the_vector_that_onednn_writes(
    geometry: Geometry, fold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads share rows and vectors, and a signal has one row."""
    assert toeplitz.best_row(geometry, 16) == fold
    monkeypatch.setattr("arrayconv.onednn.vectors", lambda: "avx2")
    own = BACKEND.native
    assert own is not None
    assert own.vector(problem_of(geometry)) == 8 and own.vector(problem_of(geometry, "float64")) == 1
    assert toeplitz.best_row(geometry, 8) == max(4, fold // 2)


def test_a_large_image_is_folded_in_tiles() -> None:
    """Whose rows are no power of two: channels of the folded result would meet in the caches."""
    for size, rows in ((1024, 1024), (2048, 683), (4096, 373)):
        axis = WindowDimension(size, 3, 1, 1, 1)
        program = program_of(Geometry(1, 1, 1, 1, (axis, axis)), "toeplitz")
        assert program.block == (1, rows, size)
        assert program.workspace < toeplitz.TILE + 2**16


def test_large_results_ask_for_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole pages of the tensor; smaller ones lie among others."""
    wishes: list[tuple[int, int, int]] = []
    monkeypatch.setattr(torch_pages, "find_madvise", lambda: lambda *wish: wishes.append(wish))
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 14, raising=False)
    x = torch.zeros(1)
    small = torch_pages.make(x, (2**23 - 1,), torch.float32)
    assert not wishes and small.shape == (2**23 - 1,)
    y = torch_pages.make(x, [2, 2**21], torch.float64)
    ((start, size, advice),) = wishes
    assert y.shape == (2, 2**21) and y.dtype == torch.float64 and advice == 14
    assert start % mmap.PAGESIZE == size % mmap.PAGESIZE == 0
    assert y.data_ptr() <= start < y.data_ptr() + mmap.PAGESIZE
    assert 2**25 - 2 * mmap.PAGESIZE < size <= 2**25


def test_a_system_without_huge_pages_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pages.sys, "platform", "win32")
    torch_pages.find_madvise.cache_clear()
    try:
        assert torch_pages.find_madvise() is None
        assert torch_pages.make(torch.zeros(1), (2**23,), torch.float32).shape == (2**23,)
    finally:
        torch_pages.find_madvise.cache_clear()


def test_pieces_keep_their_arguments() -> None:
    """A tile's own padding: that of the first rows above, of the last below."""
    geometry = Geometry(1, 1, 2, 3, (WindowDimension(9, 3, 1, 1, 1), WindowDimension(9, 3, 1, 1, 1)))
    made = native.prepare(problem_of(geometry), BACKEND, (1, 3, 9))
    assert isinstance(made, Tiling) and len(made.tiles) == 3
    assert [tile.geometry.axes[0].low for tile in made.tiles] == [1, 0, 0]
    assert [tile.geometry.axes[0].high for tile in made.tiles] == [0, 0, 1]
