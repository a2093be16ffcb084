"""JAX's `gemm`: columns stacked from slices, taps that are summed after the product, inputs that are added up."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from conftest import LIBRARIES

import arrayconv as ac
from arrayconv.algorithms import gemm_cuts, prepared, run
from arrayconv.algorithms.gemm_cuts import Parts, divisor, parts_of, split_of
from arrayconv.algorithms.gemm_stacks import Stacks, first_details
from arrayconv.algorithms.gemm_sums import Sums, added, sums_of
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import derive

RNG = np.random.default_rng(0)
JAX = LIBRARIES["jax"]

#: x, kernel and options, and what the columns of the first tile are.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], dict[str, Any]]] = {
    "taps": ((3, 2, 20, 18), (20, 2, 3, 3), {"padding": 1}, {"slices": 9, "sums": 0}),
    "one image": ((1, 2, 20, 18), (20, 2, 3, 3), {"stride": (1, 2)}, {"slices": 9, "sums": 0}),
    "rows of taps": ((3, 16, 20, 18), (2, 16, 3, 2), {"padding": ((1, 0), (2, 1))}, {"slices": 2, "sums": 3}),
    "one image's rows": ((1, 16, 20, 18), (2, 16, 5, 3), {"padding": 2}, {"slices": 3, "sums": 5}),
    "dilated rows": ((2, 16, 20, 18), (2, 16, 3, 3), {"dilation": (3, 2), "padding": (3, -1)}, {"sums": 3}),
    "rows of groups": ((2, 32, 20, 18), (4, 16, 3, 3), {"groups": 2, "stride": (1, 2)}, {"slices": 3, "sums": 3}),
    "signal": ((2, 16, 90), (2, 16, 5), {"padding": "same", "dilation": 2}, {"slices": 1, "sums": 5}),
    "strided signal": ((2, 16, 90), (2, 16, 5), {"stride": 3}, {"slices": 5, "sums": 0}),
    "volume": ((2, 16, 9, 8, 10), (2, 16, 3, 2, 3), {"padding": 1}, {"slices": 6, "sums": 3}),
    "pointwise": ((4, 8, 12, 13), (6, 8, 1, 1), {}, {"slices": 1, "sums": 0}),
    "pointwise, stride 2": ((4, 8, 30, 31), (6, 8, 1, 1), {"stride": 2, "padding": (1, 0)}, {"slices": 1}),
    "outputs": ((3, 6, 12, 13), (5, 6, 10, 12), {"padding": (0, 1)}, {"bands": 2}),
    "one output": ((4, 8, 9, 9), (6, 8, 9, 9), {}, {"bands": 1}),
    "outputs of groups": ((3, 6, 12, 13), (4, 3, 5, 5), {"groups": 2, "stride": 3, "dilation": 2}, {"bands": 1}),
    "signal's outputs": ((3, 1, 500), (5, 1, 490), {"padding": ((3, -1),)}, {"bands": 2}),
    "dilated rows of outputs": ((2, 1, 61, 30), (5, 1, 29, 9), {"dilation": (2, 3), "stride": (2, 1)}, {"bands": 2}),
}


def first_tile(x: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]) -> tuple[Stacks | Sums, Geometry]:
    program = ac.plan(ac.conv, x, kernel, library="jax", algorithm="gemm", **options).program
    return first_details(prepared(program, library_backend("jax"))), program.geometry


@pytest.fixture
def few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a time, so that outputs are added up over several inputs, images and rows."""
    monkeypatch.setattr(gemm_cuts, "MOST_COLUMNS", 2000)
    monkeypatch.setattr(gemm_cuts, "FEW_COLUMNS", 2000)


@pytest.mark.usefixtures("few_columns")
@pytest.mark.parametrize("workspace", [2**26, 2**13])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_of_every_layout(layout: str, workspace: int) -> None:
    """Whole and in tiles."""
    x_shape, kernel_shape, options, own = LAYOUTS[layout]
    details, _ = first_tile(x_shape, kernel_shape, options)
    assert own == {name: len(getattr(details, name)) for name in own}
    with ac.settings(workspace=workspace):
        for dtype in ("float32", "int32") if workspace < 2**26 else ("float32", "bfloat16", "complex128"):
            x, kernel = (RNG.integers(-9, 9, shape) for shape in (x_shape, kernel_shape))
            assert JAX.check(ac.conv, x, kernel, cast=dtype, algorithm="gemm", **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("layout", ["taps", "rows of taps", "dilated rows", "outputs", "dilated rows of outputs"])
@pytest.mark.usefixtures("few_columns")
def test_what_is_not_finite_stays_in_its_windows(layout: str, bad: float) -> None:
    x_shape, kernel_shape, options, _ = LAYOUTS[layout]
    x = RNG.standard_normal(x_shape).astype("float32")
    x[0, 0, 5, 4] = bad
    assert JAX.check(ac.conv, x, np.ones(kernel_shape, "float32"), algorithm="gemm", **options)


@pytest.mark.usefixtures("few_columns")
@pytest.mark.parametrize("most", [0, 2**22])
@pytest.mark.parametrize("layout", [name for name, (*_, own) in LAYOUTS.items() if "bands" in own])
def test_zeros_around_all_of_x_or_its_pieces(layout: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm_cuts, "PADDED", most)
    x_shape, kernel_shape, options, _ = LAYOUTS[layout]
    geometry = ac.plan(ac.conv, x_shape, kernel_shape, library="jax", **options).program.geometry
    own = sums_of(parts_of(geometry), geometry)
    assert bool(own.widths) == (geometry.is_padded and most > 0)
    x, kernel = (RNG.integers(-9, 9, shape).astype("float32") for shape in (x_shape, kernel_shape))
    y = added(library_backend("jax"), own, jax.numpy.asarray(kernel), jax.numpy.asarray(x[: own.images]))
    np.testing.assert_array_equal(y, ac.conv(x[: own.images], kernel, **options))


@pytest.mark.parametrize(
    ("images", "channels", "size", "taps", "stride", "groups"),
    [
        (1, (64, 64), 56, 3, 1, 1),
        (1, (64, 64), 224, 3, 1, 1),
        (8, (3, 64), 224, 7, 2, 1),
        (8, (64, 64), 112, 3, 1, 1),
        (4, (64, 128), 57, 5, 2, 1),
        (8, (64, 64), 56, 3, 1, 8),
        (1, (16, 16), 1024, 3, 1, 1),
        (16, (3, 8), 512, 3, 1, 1),
    ],
)
def test_a_kernel_s_gradient_holds_what_is_planned(
    images: int, channels: tuple[int, int], size: int, taps: int, stride: int, groups: int
) -> None:
    """It was up to 30 times as much: XLA copies what a loop reads, if it was reshaped."""
    inputs, outputs = channels
    kernel = (outputs, inputs // groups, taps, taps)
    options: dict[str, Any] = {"stride": stride, "padding": taps // 2, "groups": groups, "algorithm": "gemm"}
    forward = ac.plan(ac.conv, (images, inputs, size, size), kernel, library="jax", **options).program
    program, backend = derive(forward, forward.geometry.kernel_transpose()), library_backend("jax")
    shapes = program.geometry.x_shape, program.geometry.kernel_shape
    call = jax.jit(lambda x, kernel: run(program, backend, x, kernel))
    compiled = call.lower(*[jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= program.workspace <= 2**26


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (Geometry(64, 1, 8, 64, (WindowDimension(56, 54), WindowDimension(56, 54))), Parts(64, 1, 27)),
        (Geometry(64, 1, 64, 64, (WindowDimension(8, 6), WindowDimension(8, 6))), Parts(64, 32, 6)),
        (Geometry(64, 1, 1, 64, (WindowDimension(112, 110), WindowDimension(112, 110))), Parts(64, 1, 14)),
        (Geometry(7, 1, 11, 2, (WindowDimension(1000, 800), WindowDimension(1000, 800))), Parts(1, 1, 1)),
        (Geometry(9, 2, 1, 64, (WindowDimension(90000, 89998),)), Parts(9, 1, 5625)),
        (Geometry(4096, 1, 3, 16, (WindowDimension(8, 3), WindowDimension(8, 3))), Parts(16, 3, 3)),
        (Geometry(8, 1, 64, 64, (WindowDimension(58, 3), WindowDimension(58, 3))), Parts(1, 64, 3)),
        (Geometry(8, 1, 64, 64, (WindowDimension(58, 1), WindowDimension(58, 1))), Parts(8, 64, 1)),
    ],
)
def test_parts_hold_few_columns(geometry: Geometry, expected: Parts) -> None:
    assert parts_of(geometry) == expected


def test_pieces_are_equal_and_as_large_as_they_may_be() -> None:
    assert [divisor(count, most) for count, most in [(8, 3), (8, 8), (8, 99), (64, 20), (7, 3), (1, 1)]] == [
        *(2, 8, 8, 16, 1, 1)
    ]
    assert divisor(0, 5) == divisor(5, 0) == divisor(2**61 - 1, 2**20) == 1


def test_less_is_moved() -> None:
    """A layer of many channels takes its first axis apart, one of few or with a stride not."""
    wide, narrow, strided = (
        ac.plan(ac.conv, x, kernel, library="jax", stride=stride, padding=1).program.geometry
        for x, kernel, stride in (
            ((8, 64, 56, 56), (64, 64, 3, 3), 1),
            ((8, 3, 56, 56), (64, 3, 3, 3), 1),
            ((8, 64, 56, 56), (64, 64, 3, 3), 2),
        )
    )
    assert split_of(wide).taps == 3 and split_of(narrow).taps == split_of(strided).taps == 0
    assert split_of(wide).columns < wide.terms * 56 * 56 / 2


@pytest.mark.parametrize("layer", [((8, 64, 28, 28), (64, 64, 3, 3)), ((4, 8, 64, 64), (16, 8, 5, 5))])
def test_a_loop_holds_one_image(layer: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """What XLA takes beside arguments and result, for the call and both gradients."""
    x, kernel = (jax.numpy.ones(shape, "float32") for shape in layer)
    plan = ac.plan(ac.conv, x, kernel, padding=1, algorithm="gemm")
    call = jax.jit(lambda x, kernel: ac.conv(x, kernel, padding=1, algorithm="gemm"))
    taken = call.lower(x, kernel).compile().memory_analysis().temp_size_in_bytes
    all_columns = 4 * plan.program.geometry.terms * plan(x, kernel).size // kernel.shape[0]
    assert taken <= plan.program.workspace < all_columns / 2


@pytest.mark.parametrize("workspace", [2**26, 2**22, 2**19])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layer", [((2, 60, 115, 115), (3, 60, 9, 9)), ((1, 16, 230, 231), (24, 16, 3, 3))])
def test_a_loop_holds_rows_of_an_image(
    layer: tuple[tuple[int, ...], tuple[int, ...]], stride: int, workspace: int
) -> None:
    """With many slices, of which XLA holds two copies, and rows that are read by several steps."""
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in layer]
    with ac.settings(workspace=workspace):
        program = ac.plan(ac.conv, *layer, padding=2, stride=stride, library="jax", algorithm="gemm").program
        call = jax.jit(lambda x, kernel: ac.conv(x, kernel, padding=2, stride=stride, algorithm="gemm"))
        taken = call.lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert program.block[1] < program.geometry.out[0]
    assert taken <= program.workspace <= min(workspace, gemm_cuts.MOST_BYTES)


@pytest.mark.parametrize("workspace", [2**26, 2**20, 2**16])
@pytest.mark.parametrize("layer", [((65536, 3, 16, 16), (8, 3, 3, 3)), ((8, 64, 56, 56), (64, 64, 3, 3))])
def test_copies_of_many_images_count(layer: tuple[tuple[int, ...], tuple[int, ...]], workspace: int) -> None:
    """What a loop reads is copied, also where it takes several small images together."""
    with ac.settings(workspace=workspace):
        program = ac.plan(ac.conv, *layer, padding=1, library="jax", algorithm="gemm").program
    assert program.workspace <= workspace and 1 <= program.block[0] <= layer[0][0]


def test_gradients_of_a_layer() -> None:
    """In a loop over inputs, which are images here, against PyTorch's in float64."""
    import torch

    x, kernel = RNG.standard_normal((6, 4, 11, 12)), RNG.standard_normal((5, 4, 3, 3))
    dy = RNG.standard_normal((6, 5, 6, 6))
    own = [jax.numpy.asarray(array) for array in (x, kernel)]
    others = [torch.tensor(array, requires_grad=True) for array in (x, kernel)]
    torch.nn.functional.conv2d(*others, stride=2, padding=1).backward(torch.tensor(dy))
    _, pull = jax.vjp(lambda x, kernel: ac.conv(x, kernel, stride=2, padding=1, algorithm="gemm"), *own)
    for mine, other in zip(pull(jax.numpy.asarray(dy)), others, strict=True):
        np.testing.assert_allclose(mine, other.grad, rtol=1e-12, atol=1e-12)
