"""XLA's own convolution: images without padding get some, for speed; what a call crops is cut off before it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import LIBRARIES

import arrayconv as ac
from arrayconv.algorithms import ALGORITHMS, prepared, run
from arrayconv.algorithms.native_counts import is_swapped
from arrayconv.backend import library_backend
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.planner import current_settings, make_problem, make_program

RNG = np.random.default_rng(0)

#: x, kernel and options; zeros that x gets, and whether an output too many is cropped.
UNPADDED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], int, bool]] = {
    "more of x": ((2, 6, 9, 10), (4, 6, 3, 3), {}, 0, True),
    "more of y": ((2, 2, 9, 10), (8, 2, 3, 3), {}, 1, False),
    "stride": ((2, 6, 9, 10), (4, 6, 3, 3), {"stride": 2}, 0, True),
    "stride, more of y": ((2, 2, 19, 22), (64, 2, 3, 4), {"stride": 3}, 1, False),
    "dilation": ((2, 6, 9, 10), (4, 6, 3, 2), {"dilation": (2, 3)}, 0, True),
    "one output": ((2, 6, 5, 5), (4, 6, 5, 5), {}, 0, True),
    "padding": ((2, 6, 9, 10), (4, 6, 3, 3), {"padding": ((0, 0), (1, 0))}, 0, False),
    "groups": ((2, 6, 9, 10), (4, 3, 3, 3), {"groups": 2}, 0, False),
    "one tap": ((2, 6, 9, 10), (4, 6, 1, 1), {}, 0, False),
    "signal": ((2, 6, 9), (4, 6, 3), {}, 0, False),
}


@pytest.mark.parametrize("case", UNPADDED)
def test_an_image_without_padding_gets_some(case: str) -> None:
    x_shape, kernel_shape, options, zeros, is_cropped = UNPADDED[case]
    program = ac.plan(ac.conv, x_shape, kernel_shape, library="jax", algorithm="native", **options).program
    own = prepared(program, library_backend("jax"))
    assert own.widths[-1] == (0, zeros) and (own.crop[-1] != slice(None)) == is_cropped
    x, kernel = RNG.integers(-9, 9, x_shape), RNG.integers(-9, 9, kernel_shape)
    for dtype in ("float32", "bfloat16", "complex64", "int32"):
        assert LIBRARIES["jax"].check(ac.conv, x, kernel, cast=dtype, algorithm="native", **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("case", ["more of x", "more of y"])
def test_what_is_not_finite_stays_in_its_windows(case: str, bad: float) -> None:
    """Beside the zeros and the output too many."""
    x_shape, kernel_shape, options, _, _ = UNPADDED[case]
    x = RNG.standard_normal(x_shape).astype("float32")
    x[0, 0, -1, -1] = x[1, 1, 0, 0] = bad
    assert LIBRARIES["jax"].check(ac.conv, x, np.ones(kernel_shape, "float32"), algorithm="native", **options)


#: Axes of what XLA may swap, and whether it does.
SWAPPED: dict[str, tuple[tuple[WindowDimension, ...], bool]] = {
    "larger image": ((WindowDimension(9, 3, low=1, high=1),) * 2, False),
    "larger window": ((WindowDimension(3, 5, low=3, high=3),) * 2, True),
    "signal": ((WindowDimension(6, 11, low=5, high=5),), True),
    "volume": ((WindowDimension(2, 3, low=1, high=1), *(WindowDimension(3, 4, low=2, high=2),) * 2), True),
    "larger of two": ((WindowDimension(13, 3), WindowDimension(2, 8, low=6, high=6)), False),
    "one element": ((WindowDimension(1, 5, low=4, high=4),) * 2, False),
    "one element, a stride": ((WindowDimension(1, 5, 2, 4, 4),) * 2, True),
    "one element and more": ((WindowDimension(1, 5, low=4, high=4), WindowDimension(3, 4, low=2, high=2)), True),
    "one place": ((WindowDimension(7, 7), WindowDimension(3, 5, low=2, high=2)), True),
    "one place, of all": ((WindowDimension(7, 7),) * 2, False),
    "dilation": ((WindowDimension(9, 10, low=10, high=10, window_dilation=2),) * 2, True),
    "base dilation": ((WindowDimension(4, 5, low=2, high=2, base_dilation=2),) * 2, True),
    "larger with its zeros": ((WindowDimension(4, 3, low=2, high=2, base_dilation=2),) * 2, False),
    "an element at each place": ((WindowDimension(2, 3, 2, base_dilation=3), WindowDimension(4, 3)), False),
}


@pytest.mark.parametrize("case", SWAPPED)
@pytest.mark.parametrize("groups", [1, 2])
def test_what_xla_swaps(case: str, groups: int) -> None:
    """Its own text says so: the window goes backwards. Their costs are those of plain loops."""
    axes, expected = SWAPPED[case]
    geometry, backend = Geometry(3, groups, 5, 4, axes), library_backend("jax")
    problem = make_problem(geometry, "float32", backend, "cpu", current_settings())
    program = make_program(problem, backend, "native")
    call = jax.jit(lambda x, kernel: run(program, backend, x, kernel))
    arrays = (jnp.zeros(shape, "float32") for shape in (geometry.x_shape, geometry.kernel_shape))
    text = call.lower(*arrays).compile().as_text()
    assert ("rhs_reversal" in text) == is_swapped(geometry) == (expected and groups == 1)
    assert ("swapped" in ALGORITHMS["native"].counts(problem, backend)) == is_swapped(geometry)


#: Negative padding: x and kernel, and options.
CROPPED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "cropped before, padded after": ((1, 3, 8), (1, 3, 3), {"padding": ((-1, 1),)}),
    "deeper than a window": ((2, 3, 9, 8), (1, 3, 2, 3), {"padding": ((0, 0), (-4, 2))}),
    "as much as padded": ((1, 20, 1, 9), (2, 20, 1, 1), {"padding": ((1, -1), (0, 0))}),
    "all of x": ((1, 2, 3, 4), (2, 2, 1, 2), {"padding": ((4, -3), (0, 1))}),
    "strided": ((2, 3, 9), (4, 3, 2), {"padding": ((3, -2),), "stride": 2, "dilation": 3}),
}


@pytest.mark.parametrize("case", CROPPED)
@pytest.mark.parametrize("algorithm", ["auto", *ac.algorithms()])
def test_negative_padding(case: str, algorithm: str) -> None:
    """Where XLA's own convolution reads beyond x, or leaves it as it is."""
    x_shape, kernel_shape, options = CROPPED[case]
    x, kernel = RNG.integers(-9, 9, x_shape), RNG.integers(-9, 9, kernel_shape)
    LIBRARIES["jax"].check(ac.conv, x, kernel, cast="float32", algorithm=algorithm, **options)


@pytest.mark.parametrize("op", [ac.conv, ac.conv_transpose])
@pytest.mark.parametrize("low", range(-5, 4))
@pytest.mark.parametrize("high", range(-5, 4))
def test_xla_is_not_asked_to_crop(op: Any, low: int, high: int) -> None:
    """A base dilation crops elements together with the zeros after them."""
    x, kernel = RNG.integers(-9, 9, (2, 3, 4)), RNG.integers(-9, 9, (3, 3, 3))
    options: dict[str, Any] = {"padding": ((low, high),), "algorithm": "native"}
    if op is ac.conv_transpose:
        options |= {"stride": 3}
    try:
        program = ac.plan(op, x.shape, kernel.shape, library="jax", **options).program
    except ValueError:  # more is cropped than there is
        return
    if program.algorithm == "native":
        assert min(prepared(program, library_backend("jax")).arguments["padding"][0]) >= 0
    LIBRARIES["jax"].check(op, x, kernel, cast="float32", **options)
