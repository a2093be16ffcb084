"""Images that XLA gives to YNNPACK, and the two ways around what that is slow with: `stretch` and `abreast`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import LIBRARIES

import arrayconv as ac
from arrayconv.algorithms import abreast as ways
from arrayconv.algorithms.abreast import abreast
from arrayconv.algorithms.stretch import stretch
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import make_program
from arrayconv.testing import assert_within_bound
from arrayconv.ynnpack import THREADS, busiest, fed, filled, is_ynnpack, lanes, task

RNG = np.random.default_rng(0)
JAX = LIBRARIES["jax"]

Shapes = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]

#: x, kernel and options on both sides of each rule.
HANDED: dict[str, tuple[Shapes, bool]] = {
    "image": (((2, 17, 9, 10), (4, 17, 3, 3), {}), True),
    "outputs": (((2, 4, 9, 10), (17, 4, 3, 3), {}), True),
    "few channels": (((2, 16, 9, 10), (16, 16, 3, 3), {}), False),
    "channels of groups": (((2, 20, 9, 10), (10, 2, 3, 3), {"groups": 10}), True),
    "stride and dilation": (((2, 17, 19, 20), (4, 17, 3, 3), {"stride": 2, "dilation": 3, "padding": 1}), True),
    "same": (((2, 17, 9, 10), (4, 17, 3, 3), {"padding": "same"}), True),
    "larger result": (((2, 17, 9, 10), (4, 17, 3, 3), {"padding": ((0, 0), (2, 1))}), False),
    "larger window": (((2, 17, 9, 3), (4, 17, 3, 4), {"padding": ((0, 0), (1, 1))}), False),
    "signal": (((2, 17, 90), (4, 17, 3), {}), False),
    "volume": (((2, 17, 5, 6, 7), (4, 17, 3, 3, 3), {}), False),
}

#: What both ways serve: odd sizes, strides, zeros that differ, groups.
SERVED: dict[str, Shapes] = {
    "layer": ((3, 18, 11, 13), (5, 18, 3, 3), {"padding": 1}),
    "stride": ((2, 4, 13, 21), (18, 4, 3, 5), {"stride": (2, 3), "padding": ((1, 0), (2, 1))}),
    "dilation": ((3, 17, 12, 19), (2, 17, 3, 2), {"dilation": (2, 3)}),
    "groups": ((2, 20, 10, 12), (30, 2, 3, 3), {"groups": 10, "stride": (1, 2)}),
    "pointwise": ((4, 20, 7, 9), (3, 20, 1, 1), {"stride": 2}),
    "stride beyond the window": ((3, 17, 14, 15), (2, 17, 2, 2), {"stride": 4}),
}


def geometry_of(shapes: Shapes) -> Geometry:
    x, kernel, options = shapes
    return ac.plan(ac.conv, x, kernel, library="jax", **options).program.geometry


def text(shapes: Shapes, algorithm: str) -> str:
    x, kernel, options = shapes
    call = jax.jit(lambda *arrays: ac.conv(*arrays, algorithm=algorithm, **options))
    return str(call.lower(*(jnp.zeros(shape, "float32") for shape in (x, kernel))).compile().as_text())


@pytest.fixture
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images side by side have something to share, one has not."""
    monkeypatch.setattr(ways, "busiest", lambda geometry: float(geometry.batch > 1))


@pytest.mark.parametrize("case", HANDED)
def test_what_xla_hands_to_ynnpack(case: str) -> None:
    """Nothing in releases without it."""
    shapes, expected = HANDED[case]
    assert is_ynnpack(geometry_of(shapes)) == expected
    has_ynnpack = "__ynn" in text(HANDED["image"][0], "native")
    assert ("__ynn" in text(shapes, "native")) == (has_ynnpack and expected)
    if expected:
        assert "__ynn" not in text(shapes, "stretch")


@pytest.mark.parametrize("algorithm", ["stretch", "abreast"])
@pytest.mark.parametrize("case", SERVED)
def test_both_ways(case: str, algorithm: str, short_rows: None) -> None:
    x_shape, kernel_shape, options = SERVED[case]
    assert ac.plan(ac.conv, x_shape, kernel_shape, library="jax", algorithm=algorithm, **options).algorithm == algorithm
    x, kernel = RNG.standard_normal(x_shape), RNG.standard_normal(kernel_shape)
    for dtype in ("float32", "bfloat16", "float64"):
        assert JAX.check(ac.conv, x, kernel, cast=dtype, algorithm=algorithm, **options)


@pytest.mark.parametrize("algorithm", ["stretch", "abreast"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_windows(algorithm: str, bad: float, short_rows: None) -> None:
    """An image beside another gets none of it, nor do the places between."""
    x = RNG.standard_normal((3, 18, 11, 13)).astype("float32")
    x[1, 2, 0, 0] = x[1, 3, 5, 12] = bad
    for kernel in (np.ones((5, 18, 3, 3), "float32"), np.full((5, 18, 3, 3), bad, "float32")):
        assert JAX.check(ac.conv, x, kernel, algorithm=algorithm, padding=1)


@pytest.mark.parametrize("algorithm", ["stretch", "abreast"])
def test_transformations(algorithm: str, short_rows: None) -> None:
    x, kernel = (jnp.asarray(RNG.standard_normal(s), "float32") for s in ((3, 2, 18, 11, 13), (5, 18, 3, 3)))

    def call(x: Any, kernel: Any) -> Any:
        return ac.conv(x, kernel, padding=1, stride=2, algorithm=algorithm)

    y = jax.jit(jax.vmap(call, (0, None)))(x, kernel)
    for one, own in zip(y, x, strict=True):
        assert_within_bound(one, own, kernel, op=ac.conv, padding=1, stride=2)
    dx, dk = jax.grad(lambda *own: (jax.vmap(call, (0, None))(*own) * y).sum(), (0, 1))(x, kernel)
    np.testing.assert_allclose((dx * x).sum(), (y * y).sum(), rtol=1e-4)
    np.testing.assert_allclose((dk * kernel).sum(), (y * y).sum(), rtol=1e-4)


def axes() -> st.SearchStrategy[WindowDimension]:
    whole = st.builds(
        WindowDimension,
        st.integers(1, 30),
        st.integers(1, 5),
        st.integers(1, 5),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(1, 4),
    )
    return whole.filter(lambda axis: axis.output > 0)


def test_places_of_both_ways() -> None:
    """By the definition: output j of an image and tap t read the same element, or zeros in both."""

    def reads(axis: WindowDimension, j: int, t: int) -> int | None:
        """The element, or None for a zero: what lies between elements is none, and never met."""
        place = j * axis.stride + t * axis.window_dilation - axis.low
        if not 0 <= place < axis.base:
            return None
        assert place % axis.base_dilation == 0
        return place // axis.base_dilation

    def check(drawn: tuple[WindowDimension, int]) -> None:
        axis, batch = drawn
        geometry = Geometry(batch, 1, 2, 3, (WindowDimension(1, 1), axis))
        (_, long), (_, row) = stretch(geometry).axes, abreast(geometry).axes
        long = long if axis.size > 1 else axis
        assert long.output == axis.output and abreast(geometry).batch == 1
        each, length = row.output // batch, row.size // batch
        assert each >= axis.output and length >= axis.padded
        for n in range(batch):
            for j in range(axis.output):
                for t in range(axis.kernel):
                    element = reads(axis, j, t)
                    assert reads(long, j, t) == element
                    place = reads(row, n * each + j, t)
                    inner = None if place is None else place - n * length - axis.low
                    assert (inner if inner in range(axis.size) else None) == element
                    assert place is not None and place // length == n

    JAX.for_all(st.tuples(axes(), st.integers(1, 4)), check)


def row_of(width: int, inputs: int, outputs: int, taps: int = 3) -> Geometry:
    axis = WindowDimension(width + taps - 1, taps)
    return Geometry(8, 1, inputs, outputs, (axis, axis))


@pytest.mark.parametrize(
    ("width", "inputs", "outputs", "expected"),
    [  # those that were timed: processor time over time tells how many threads worked
        (14, 64, 256, (14, 128)),
        (28, 64, 128, (28, 128)),
        (40, 64, 128, (40, 64)),
        (48, 64, 192, (48, 64)),
        (56, 64, 128, (56, 64)),
        (48, 32, 256, (48, 256)),
        (48, 32, 288, (48, 256)),
        (64, 64, 64, (64, 64)),
        (80, 64, 64, (64, 64)),
        (128, 64, 32, (128, 32)),
        (144, 64, 32, (128, 32)),
        (128, 17, 254, (128, 256)),  # filled; timed as it stands
        (480, 10, 256, (256, 64)),
        (128, 18, 380, (128, 384)),
    ],
)
def test_tasks_of_a_row(width: int, inputs: int, outputs: int, expected: tuple[int, int]) -> None:
    assert task(row_of(width, inputs, outputs)) == expected


@pytest.mark.parametrize(
    ("outputs", "groups", "expected"),
    [
        (8, 1, 8),
        (9, 1, 16),
        (24, 1, 24),
        (25, 1, 32),
        (48, 1, 48),
        (49, 1, 64),
        (64, 1, 64),
        (65, 1, 65),
        (112, 1, 112),
        (116, 1, 128),
        (60, 2, 60),
    ],
)
def test_blocks_that_are_filled(outputs: int, groups: int, expected: int) -> None:
    """And no channel of the result is one of those."""
    geometry = replace(row_of(20, 17, outputs), groups=groups, batch=1)
    assert filled(geometry) == expected and lanes(geometry) % 8 == 0 <= lanes(geometry) - expected < 8
    x, kernel = RNG.standard_normal((1, groups * 17, 6, 7)), RNG.standard_normal((groups * outputs, 17, 3, 3))
    for dtype in ("float32", "float64"):
        assert JAX.check(ac.conv, x, kernel, cast=dtype, algorithm="native", groups=groups)
    small = (x[:, :, :5], kernel[..., :2, :2]) if groups == 1 else (x, kernel)
    assert JAX.check(ac.conv, *small, cast="float32", algorithm="native", groups=groups, padding=1, stride=2)


@pytest.mark.parametrize(("outputs", "computed"), [(60, 64), (48, 48)])
def test_xla_gets_what_is_filled(outputs: int, computed: int) -> None:
    call = jax.jit(lambda *arrays: ac.conv(*arrays, algorithm="native", padding=1))
    text = call.lower(*(jnp.zeros(shape, "float32") for shape in ((1, 32, 9, 10), (outputs, 32, 3, 3)))).as_text()
    assert f"-> tensor<1x{computed}x9x10xf32>" in text


#: Channels in and out, and those in that are read.
FED = [
    (3, 24, 4),
    (3, 33, 3),
    (3, 64, 3),
    (3, 72, 4),
    (3, 96, 3),
    (4, 24, 4),
    (5, 32, 8),
    (7, 40, 8),
    (9, 40, 9),
    (10, 40, 12),
    (10, 24, 10),
    (7, 90, 8),
    (9, 128, 9),
    (11, 112, 12),
    (9, 136, 12),
    (18, 3, 20),
    (33, 17, 36),
]


@pytest.mark.parametrize(("inputs", "outputs", "expected"), FED)
@pytest.mark.parametrize("groups", [1, 3])
def test_inputs_that_are_read_by_fours(inputs: int, outputs: int, expected: int, groups: int) -> None:
    """Zeros meet zeros alone: what is not finite stays in its windows, and out of a cropped part."""
    geometry = replace(row_of(20, inputs, outputs), groups=groups)
    assert fed(replace(row_of(20, inputs, outputs, 1), groups=groups)) == inputs
    x, kernel = RNG.standard_normal((2, groups * inputs, 9, 8)), RNG.standard_normal((groups * outputs, inputs, 3, 3))
    x[0, -1, 4, 4] = np.nan
    for options in ({"stride": 2}, {"padding": ((-1, 0), (1, 1))}):
        assert JAX.check(ac.conv, x, kernel, cast="float32", algorithm="native", groups=groups, **options)
    call = jax.jit(lambda *arrays: ac.conv(*arrays, algorithm="native", groups=groups))
    text = call.lower(*(jnp.zeros(array.shape, "float32") for array in (x, kernel))).as_text()
    assert f"tensor<{groups * filled(geometry)}x{fed(geometry)}x3x3xf32>)" in text
    assert fed(geometry) == expected


def test_share_of_the_busiest_thread() -> None:
    """By handing out one task after the other to the thread that has least."""

    def check(drawn: tuple[int, int, int, int]) -> None:
        width, inputs, outputs, taps = drawn
        geometry = row_of(width, inputs, outputs, taps)
        columns, channels = task(geometry)
        outputs = filled(geometry)
        loads = [0] * THREADS
        for across in range(0, outputs, channels):
            for along in range(0, width, columns):
                own = min(columns, width - along) * min(channels, outputs - across)
                loads[loads.index(min(loads))] += own
        exact = max(loads) / (width * outputs)
        assert 1 / THREADS <= busiest(geometry) <= exact + 0.01  # short tasks are taken to fill what is left
        assert busiest(geometry) >= exact - 0.25
        assert (busiest(geometry) == 1) == ((columns, channels) == (width, outputs))

    sizes = st.tuples(st.integers(1, 600), st.integers(1, 300), st.integers(1, 600), st.integers(1, 5))
    JAX.for_all(sizes, check)


def test_images_abreast_are_shared_better() -> None:
    layer = row_of(56, 64, 64)
    assert busiest(layer) == 1
    assert busiest(abreast(layer)) == pytest.approx(256 / 464)


@pytest.mark.parametrize(
    ("shapes", "algorithm", "options", "reason"),
    [
        (((8, 16, 9, 9), (16, 16, 3, 3)), "stretch", {}, "has no other routine for it"),
        (((8, 32, 9, 9), (16, 32, 3, 3)), "stretch", {"library": "numpy"}, "has no other routine for it"),
        (((8, 32, 9, 9), (16, 32, 3, 3)), "stretch", {"dtype": "int32"}, "has no other routine for it"),
        (((1, 32, 9, 9), (16, 32, 3, 3)), "abreast", {}, "shares out images"),
        (((8, 32, 9, 9), (16, 32, 3, 3)), "abreast", {"library": "torch"}, "shares out images"),
        (((8, 32, 9, 9), (16, 32, 3, 3)), "abreast", {"padding": ((0, 0), (1, -1))}, "its padding crops"),
        (((8, 32, 9, 9), (16, 32, 3, 3)), "abreast", {}, "threads share its rows no better so"),
        (((8, 64, 66, 66), (256, 64, 3, 3)), "abreast", {}, "threads share its rows no better so"),
        (((256, 64, 56, 56), (64, 64, 3, 3)), "abreast", {}, r"side by side take \d+ bytes; settings\(workspace"),
        (((24, 64, 56, 56), (64, 64, 3, 3)), "abreast", {}, r"side by side take \d+ bytes, which the system would"),
    ],
)
def test_why_not(shapes: Any, algorithm: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"'{algorithm}' can't serve .*{reason}"):
        ac.plan(ac.conv, *shapes, algorithm=algorithm, **({"library": "jax"} | options))


def test_an_accelerator_has_no_detour() -> None:
    problem = ac.plan(ac.conv, (8, 32, 9, 9), (16, 32, 3, 3), library="jax").program.problem
    with pytest.raises(ValueError, match="has no other routine for it"):
        make_program(replace(problem, device="gpu"), library_backend("jax"), "stretch")


def test_bytes_side_by_side(short_rows: None) -> None:
    """x with its zeros, and y with what is dropped."""
    plan = ac.plan(ac.conv, (4, 18, 10, 11), (5, 18, 3, 3), padding=1, library="jax", algorithm="abreast")
    assert plan.program.workspace == 4 * (18 * 10 * 4 * 13 + 5 * 10 * 4 * 13)
