"""The bound on temporary memory, of plans and of calls."""

from __future__ import annotations

import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import arrayconv as ac
from arrayconv.algorithms import prepared
from arrayconv.backend import library_backend
from arrayconv.backends.workers import Workers
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, execute, make_problem, make_program, options

if TYPE_CHECKING:
    from conftest import Library


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        (((4, 8, 128, 128), (8, 8, 3, 3)), {"padding": "same"}),
        (((1, 1, 1024, 1024), (1, 1, 5, 5)), {"padding": "same"}),
        (((1, 1, 1024, 1024), (1, 1, 2, 2)), {"stride": 2}),
        (((16, 16, 32, 32), (32, 8, 3, 3)), {"groups": 2, "dilation": 2}),
        (((1, 4, 200_000), (4, 4, 9)), {"padding": "causal"}),
    ],
)
@pytest.mark.parametrize("algorithm", ["gemm", "direct"])
def test_temporary_memory_stays_under_the_workspace(algorithm: str, shapes: Any, options: Any, dtype: str) -> None:
    """Beside the result, and the kernel in the type in which it is summed."""
    x, kernel = (np.ones(shape, dtype) for shape in shapes)
    with ac.settings(workspace=2**20):
        ac.conv(x[..., :40], kernel, algorithm=algorithm, **options)
        tracemalloc.start()
        try:
            y = ac.conv(x, kernel, algorithm=algorithm, **options)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        plan = ac.plan(ac.conv, x, kernel, algorithm=algorithm, **options)
    temporary = peak - y.nbytes - kernel.size * 8
    assert temporary <= 2**20 + 2**16, f"{temporary / 2**20:.2f} MiB"
    assert plan.program.workspace > 2**18 and plan.program.block < (len(x), *y.shape[2:])


COMPILED = {
    "image": (((1, 2, 600, 700), (1, 2, 3, 3)), {"padding": "same"}),
    "strided": (((1, 2, 600, 700), (2, 2, 3, 3)), {"stride": 2, "padding": 1}),
    "depthwise": (((24, 8, 64, 64), (8, 1, 3, 3)), {"groups": 8, "padding": "same"}),
    "strided signal": (((1, 1, 400_001), (1, 1, 90)), {"stride": 2}),
    "causal": (((1, 4, 200_000), (4, 4, 9)), {"padding": "causal"}),
    "layer": (((16, 16, 64, 64), (16, 16, 3, 3)), {"padding": "same"}),
    "long window": (((1, 1, 600, 700), (1, 1, 20, 20)), {}),
}


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        *[("direct", name) for name in COMPILED],
        *[("gemm", name) for name in COMPILED if name != "long window"],
        *[("fft", name) for name in ("image", "strided", "depthwise", "layer", "long window")],
    ],
)
def test_what_xla_allocates_stays_under_the_workspace(algorithm: str, name: str) -> None:
    """A loop holds one tile; of a list of them XLA held the slices of all."""
    jax = pytest.importorskip("jax")
    (x_shape, kernel_shape), options = COMPILED[name]
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=x_shape).astype("float32"), rng.normal(size=kernel_shape).astype("float32")
    with ac.settings(workspace=2**20):
        plan = ac.plan(ac.conv, x_shape, kernel_shape, algorithm=algorithm, library="jax", **options)
        run = jax.jit(lambda *own: ac.conv(*own, algorithm=algorithm, **options)).lower(x, kernel).compile()
    held = run.memory_analysis().temp_size_in_bytes
    assert plan.program.block < (len(x), *plan.output_shape[2:])
    assert held <= 2**20, f"{held / 2**20:.2f} MiB"
    expected = ac.conv(x.astype("float64"), kernel.astype("float64"), algorithm="direct", **options)
    np.testing.assert_allclose(run(x, kernel), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("algorithm", "taps", "held"),
    [("direct", 1, 2**12), ("direct", 3, 2**12), ("gemm", 1, 2**12), ("direct", 9, 2**24)],
)
def test_what_xla_reads_where_it_lies_is_no_temporary_memory(algorithm: str, taps: int, held: int) -> None:
    """The last one is a sum in passes, whose rest of a line is joined to it."""
    jax = pytest.importorskip("jax")
    x, kernel = np.ones((1, 16, 900_000), "float32"), np.ones((4, 16, taps), "float32")
    plan = ac.plan(ac.conv, x.shape, kernel.shape, algorithm=algorithm, library="jax")
    compiled = jax.jit(lambda *own: ac.conv(*own, algorithm=algorithm)).lower(x, kernel).compile()
    assert plan.program.block == (1, 900_001 - taps)
    assert compiled.memory_analysis().temp_size_in_bytes <= held


def test_xla_s_own_convolution_is_in_no_loop() -> None:
    with (
        ac.settings(workspace=2**20),
        pytest.raises(ValueError, match=r"slow in a loop over tiles; settings\(workspace=...\) admits one tile"),
    ):
        ac.plan(ac.conv, (1, 2, 600, 700), (1, 2, 3, 3), algorithm="toeplitz", library="jax")


MANY_GROUPS = {
    "signals": Geometry(4, 205, 1, 1, (WindowDimension(351, 7, 2, 3, 3),)),
    "one tap": Geometry(40, 30, 4, 4, (WindowDimension(30, 1), WindowDimension(30, 1))),
    "long windows": Geometry(40, 30, 4, 4, (WindowDimension(40, 30),)),
}


@pytest.mark.parametrize("workspace", [1, 2**13, 2**17])
@pytest.mark.parametrize("name", MANY_GROUPS)
def test_xla_is_given_a_loop_over_tiles_however_small(name: str, workspace: int) -> None:
    """A list of all tiles of some groups took minutes to compile: a few pieces of the groups are one."""
    backend, listed = library_backend("jax"), {}
    with ac.settings(workspace=workspace):
        problem = make_problem(MANY_GROUPS[name], "float32", backend, "cpu", current_settings())
        for row in options(problem, backend):
            if row.serves and not row.parts and row.name != "separable":
                made = prepared(make_program(problem, backend, row.name), backend)
                listed[row.name] = len(getattr(made, "tiles", ()))
    assert "gemm" in listed and max(listed.values()) <= 64, listed


@pytest.mark.parametrize("groups", [1, 8])
def test_xla_copies_no_images_that_a_loop_takes(groups: int) -> None:
    """Two loops over 16 images each held 74 MiB, in the default workspace of 64."""
    jax = pytest.importorskip("jax")
    x_shape, kernel_shape = (32, 128, 56, 56), (128, 128 // groups, 3, 3)
    options: dict[str, Any] = {"padding": "same", "algorithm": "gemm", "groups": groups}
    program = ac.plan(ac.conv, x_shape, kernel_shape, library="jax", **options).program
    arrays = [jax.ShapeDtypeStruct(shape, "float32") for shape in (x_shape, kernel_shape)]
    held = jax.jit(lambda *own: ac.conv(*own, **options)).lower(*arrays).compile().memory_analysis().temp_size_in_bytes
    assert program.block == (1, 56, 56)
    assert held <= program.workspace <= 2**24


@pytest.mark.parametrize("inputs", [32, 33, 70])
def test_xla_holds_no_products_of_spectra(inputs: int) -> None:
    """It makes a tree of the sum of more than 32, and held 82 MiB for 40 channels to 40."""
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    x, kernel = (
        rng.normal(size=(2, inputs, 9000)).astype("float32"),
        rng.normal(size=(9, inputs, 129)).astype("float32"),
    )
    program = ac.plan(ac.conv, x.shape, kernel.shape, library="jax", algorithm="fft").program
    compiled = jax.jit(lambda *own: ac.conv(*own, algorithm="fft")).lower(x, kernel).compile()
    held = compiled.memory_analysis().temp_size_in_bytes
    assert held <= 1.1 * program.workspace, "slices and tables are left to `MARGIN`"
    expected = ac.conv(x.astype("float64"), kernel.astype("float64"), algorithm="gemm")
    np.testing.assert_allclose(compiled(x, kernel), expected, atol=1e-3)


@pytest.mark.parametrize("inputs", [1, 2])
def test_rows_are_not_cut_where_groups_can_be(library: Library, inputs: int) -> None:
    """NumPy's tiles hold few groups then."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 24 * inputs, 400)), rng.normal(size=(48, inputs, 3))
    options: dict[str, Any] = {"groups": 24, "padding": 1, "algorithm": "direct"}
    with ac.settings(workspace=2**17):
        library.check(ac.conv, x.astype("float32"), kernel.astype("float32"), **options)
        plan = ac.plan(ac.conv, library.make(x), library.make(kernel), **options)
        made = prepared(plan.program, library_backend(library.name))
    if library.name == "numpy":
        assert plan.program.block[-1] == 400 and {tile.geometry.groups for tile in made.tiles} < set(range(24))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("window", "options"), [((5, 5), {"padding": "same"}), ((31, 3), {"stride": (1, 2)})])
def test_temporary_memory_of_passes(window: tuple[int, ...], options: Any, dtype: str) -> None:
    """Ones are a product, so the passes run, in tiles that count their halos."""
    x, kernel = np.ones((1024, 1024), dtype), np.ones(window, dtype)
    options = options | {"algorithm": "separable"}
    with ac.settings(workspace=2**20):
        ac.correlate(x[:100, :40], kernel, **options)
        tracemalloc.start()
        try:
            y = ac.correlate(x, kernel, **options)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        plan = ac.plan(ac.correlate, x, kernel, **options)
    temporary = peak - y.nbytes
    assert 2**17 < temporary <= plan.program.workspace + 2**16, f"{temporary / 2**20:.2f} MiB"
    assert plan.program.workspace <= 2**20 and plan.program.block[1] < y.shape[0]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("algorithm", ["floats", "rounded"])
def test_temporary_memory_of_floats(algorithm: str, dtype: str) -> None:
    """Tiles are cast one by one; small integers are widened as a whole, or not at all."""
    x, kernel, room = np.ones((700, 700), dtype), np.ones((31, 31), dtype), 2**24
    with ac.settings(workspace=room):
        ac.correlate(x[:100, :40], kernel, algorithm=algorithm)
        tracemalloc.start()
        try:
            y = ac.correlate(x, kernel, algorithm=algorithm)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        plan = ac.plan(ac.correlate, x, kernel, algorithm=algorithm)
    temporary = peak - y.nbytes
    assert temporary <= min(room, 1.1 * plan.program.workspace), f"{temporary / 2**20:.2f} MiB"
    with (
        ac.settings(workspace=2**21),
        pytest.raises(ValueError, match="wider integers, take") if dtype == "uint8" else nullcontext(),
    ):
        ac.plan(ac.correlate, x, kernel, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["direct", "gemm", "toeplitz", "fft", "winograd"])
@pytest.mark.parametrize("cores", [3, 8])
def test_more_cores_take_no_more_memory(algorithm: str, cores: int) -> None:
    """Smaller tiles, and fewer at once where the smallest are too large for all cores."""
    team = Workers(cores)
    backend = replace(library_backend("numpy"), workers=team, multipliers=team)
    kernel = np.ones((8, 2, 3, 3, 3), "float32")
    x = np.ones((2, 2, 24, 24, 40), "float32")
    with ac.settings(workspace=2**20, accuracy="normwise"):
        plan = ac.plan(ac.conv, x, kernel)
        program = make_program(plan.program.problem, backend, algorithm)
        assert program.workspace <= 2**20 and program.block < (len(x), *plan.output_shape[2:])
        execute(program, backend, x, kernel)
        tracemalloc.start()
        try:
            y = execute(program, backend, x, kernel)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    np.testing.assert_allclose(y, 54, rtol=1e-5)
    assert peak - y.nbytes <= 2**20 + 2**17, f"{(peak - y.nbytes) / 2**20:.2f} MiB"


def test_the_gradient_s_temporary_memory_too() -> None:
    x, kernel = np.ones((1, 8, 512, 512), "float32"), np.ones((8, 8, 3, 3), "float32")
    with ac.settings(workspace=2**20):
        y, pullback = ac.vjp(ac.conv, x, kernel, padding="same")
        tracemalloc.start()
        try:
            cotangents = pullback(y)
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak - held <= 2**20 + 2**16, f"{(peak - held) / 2**20:.2f} MiB"
    kept = held - sum(cotangent.nbytes for cotangent in cotangents)
    assert kept <= 2**18, f"{kept / 2**20:.2f} MiB"  # the tiles, derived in this first run


@pytest.mark.parametrize("taps", [7, 15, 31, 63])
def test_long_windows_are_not_transformed_output_by_output(taps: int) -> None:
    """A kernel's gradient: the spectrum of a tile is hardly larger than that of the window alone."""
    plan = ac.plan(ac.correlate, (1024, 1024), (1025 - taps, 1025 - taps), algorithm="fft")
    assert prod(-(-taps // n) for n in plan.program.block[1:]) <= 4
    assert plan.program.workspace <= 2**26


LONG_WINDOWS = {
    "signals": Geometry(64, 1, 1, 1, (WindowDimension(100_000, 99_000),)),
    "images": Geometry(64, 1, 1, 1, (WindowDimension(256, 254),) * 2),
    "kernel of many images": Geometry(1, 1, 128, 1, (WindowDimension(512, 512, 1, 1, 1),) * 2),
    "kernels of a layer": Geometry(3, 1, 64, 1, (WindowDimension(224, 218),) * 2),
    "volumes": Geometry(1, 1, 8, 8, (WindowDimension(75, 11),) * 3),
}


@pytest.mark.parametrize("name", LONG_WINDOWS)
def test_long_windows_stay_within_the_workspace(name: str, library: Library) -> None:
    """Of every algorithm that serves: a transform's length is that of its window, however few outputs a tile has.

    `gemm` is there for everything: a column of one output may be larger, as the window itself is.
    """
    backend = library_backend(library.name)
    problem = make_problem(LONG_WINDOWS[name], "float32", backend, "cpu", current_settings())
    for row in options(problem, backend):
        if not row.serves or row.name == "native":
            continue
        program = make_program(problem, backend, row.name)
        one = row.name == "gemm" and set(program.block) == {1}
        assert one or program.workspace <= problem.settings.workspace, row.name
