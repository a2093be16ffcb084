"""Both ways to sum over windows against loops over outputs, in integers and in noise, and the choice between them."""

from __future__ import annotations

import tracemalloc
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import normal
from skimage import data

import arrayconv as ac
from arrayconv.backend import library_backend
from arrayconv.boundary import BOUNDARIES
from arrayconv.geometry import Geometry, WindowDimension
from arrayconv.learn import sums
from arrayconv.learn.autocorrelation import cut
from arrayconv.learn.moments import Moments
from arrayconv.learn.sums import WAYS, cheapest_way

if TYPE_CHECKING:
    from conftest import Library

Axis = WindowDimension


class Case(NamedTuple):
    """Axes of a stride of 1, and what else x and y have."""

    axes: tuple[WindowDimension, ...]
    batch: int = 1
    groups: int = 1
    inputs: int = 1
    outputs: int = 1


CASES = {
    "1-D": Case((Axis(23, 4),)),
    "one tap": Case((Axis(9, 1), Axis(8, 3))),
    "as long as x": Case((Axis(6, 6),)),
    "longer than what is left": Case((Axis(9, 7, low=-1), Axis(4, 3))),
    "batch and channels": Case((Axis(12, 3),), batch=3, inputs=2, outputs=3),
    "groups": Case((Axis(7, 2), Axis(6, 3)), batch=2, groups=2, inputs=2, outputs=2),
    "asymmetric padding": Case((Axis(7, 3, low=2, high=0), Axis(5, 4, low=0, high=5)), outputs=2),
    "negative padding": Case((Axis(11, 3, low=-2, high=1), Axis(12, 2, low=3, high=-4)), inputs=2),
    "dilation": Case((Axis(15, 3, low=1, high=2, window_dilation=2), Axis(13, 3, window_dilation=4)), batch=2),
    "dilation beyond the outputs": Case((Axis(13, 3, window_dilation=5),), inputs=2),
    "3-D": Case((Axis(5, 2), Axis(6, 3, low=1), Axis(7, 3, high=2)), batch=2, inputs=2),
    "3-D dilation": Case((Axis(7, 2, window_dilation=3), Axis(5, 2, low=-1), Axis(6, 2, high=1, window_dilation=2))),
}


def integers(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Integers, of Gauss where complex."""
    return np.round(4 * normal(*shape, dtype="complex128" if "complex" in dtype else "float64", seed=seed)).astype(
        dtype
    )


def problem(name: str, dtype: str = "float64") -> tuple[Geometry, Any, Any]:
    axes, *channels = CASES[name]
    geometry = Geometry(*channels, axes)
    return geometry, integers(geometry.x_shape, dtype, 0), integers(geometry.y_shape, dtype, 1)


def by_loops(geometry: Geometry, x: Any, y: Any, bias: bool) -> Any:
    """W an output at a time; exact for integers."""
    axes, inputs, outputs = geometry.axes, geometry.inputs, geometry.outputs
    x = np.pad(x, [(0, 0), (0, 0), *((max(0, axis.low), max(0, axis.high)) for axis in axes)])
    x = x[(..., *(slice(max(0, -axis.low), n - max(0, -axis.high)) for axis, n in zip(axes, x.shape[2:], strict=True)))]
    matrices, vectors = [], []
    for group in range(geometry.groups):
        rows, targets = [], []
        for image, *places in product(range(len(x)), *map(range, geometry.out)):
            window = tuple(
                slice(place, place + axis.window, axis.window_dilation)
                for place, axis in zip(places, axes, strict=True)
            )
            own = x[(image, slice(group * inputs, (group + 1) * inputs), *window)].ravel()
            rows.append(np.append(own, 1) if bias else own)
            targets.append(y[(image, slice(group * outputs, (group + 1) * outputs), *places)])
        w = np.stack(rows)
        matrices.append(w.conj().T @ w)
        vectors.append((w.conj().T @ np.stack(targets)).T)
    return np.concatenate([np.ravel(matrices), np.ravel(vectors), [np.vdot(y, y)]])


def what_of(geometry: Geometry, accumulator: str, bias: bool = False, tile: int = 2**22, room: int = 2**26) -> Moments:
    return Moments(geometry.groups, geometry.inputs, geometry.outputs, bias, accumulator, tile, room)


def gather(way: str, library: str, what: Moments, geometry: Geometry, x: Any, y: Any) -> Any:
    backend = library_backend(library)
    return backend.to_numpy(backend.sum_windows(WAYS[way].gather, what, backend, geometry.axes, x, y))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_sums_are_those_of_loops(way: str, name: str, dtype: str, bias: bool) -> None:
    geometry, x, y = problem(name, dtype)
    expected = by_loops(geometry, x, y, bias)
    for tile in (2**8, 2**12, 2**22):  # one image and some outputs at once, and all
        found = gather(way, "numpy", what_of(geometry, dtype, bias, tile), geometry, x, y)
        np.testing.assert_array_equal(np.round(found), expected)
        np.testing.assert_allclose(found, expected, atol=4e-15 * abs(expected).max())


@pytest.mark.parametrize("name", ["groups", "dilation", "3-D"])
def test_sums_are_the_same_on_every_library(name: str, library: Library) -> None:
    dtype = "complex128" if name == "dilation" else "float64"
    geometry, x, y = problem(name, dtype)
    own = library.asarray(x), library.asarray(y)
    found = gather("spectra", library.name, what_of(geometry, dtype, True, 2**14), geometry, *own)
    np.testing.assert_array_equal(np.round(found), by_loops(geometry, x, y, True))


@pytest.fixture
def spectra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they cost."""
    monkeypatch.setattr(sums, "WAYS", {"spectra": WAYS["spectra"]})


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.usefixtures("spectra")
def test_every_boundary(boundary: str) -> None:
    """Padding deeper than the image, on one side."""
    x, options = normal(6, 7), {"padding": ((8, -2), (0, 3)), "boundary": boundary}
    padded = ac.pad(x, ((8, 0), (0, 3)), boundary=boundary)[:-2]
    design = ac.windows(padded, (4, 3)).reshape(-1, 12)
    y = normal(9, 8, seed=1)
    gram = ac.gram(ac.correlate, x, y, (4, 3), **options)
    np.testing.assert_allclose(gram.matrix[0], design.T @ design, atol=1e-12)
    np.testing.assert_allclose(gram.vector[0, 0], design.T @ y.ravel(), atol=1e-12)


@pytest.mark.parametrize(("size", "window"), [((50_000,), (300,)), ((400, 300), (13, 17)), ((40, 50, 60), (5, 6, 7))])
def test_large_data_far_from_zero(size: Any, window: Any) -> None:
    """The tiles' own error is as large: the sums of some 1e9 end at 1e-6 or so."""
    x = (100 + normal(*size, dtype="float32"))[None, None]
    geometry = Geometry(1, 1, 1, 1, tuple(map(Axis, size, window)))
    y = normal(*geometry.y_shape, dtype="float32", seed=1)
    what = what_of(geometry, "float64", bias=True)
    found, expected = (gather(way, "numpy", what, geometry, x, y) for way in ("spectra", "tiles"))
    matrix = geometry.terms**2
    np.testing.assert_allclose(found[:matrix], expected[:matrix], rtol=2e-14)
    np.testing.assert_allclose(found, expected, atol=1e-14 * np.linalg.norm(x) * np.linalg.norm(y), rtol=2e-14)


def test_single_precision_where_there_is_no_other() -> None:
    geometry, x, y = problem("batch and channels", "float32")
    with jax.enable_x64(False):
        what = what_of(geometry, "float32", True)
        found = gather("spectra", "jax", what, geometry, jnp.asarray(x), jnp.asarray(y))
        assert found.dtype == np.float32
    expected = by_loops(geometry, x.astype(float), y.astype(float), True)
    np.testing.assert_allclose(found, expected, atol=1e-6 * abs(expected).max())


def test_what_no_window_reads_may_be_anything() -> None:
    """Elements between the taps of few outputs, and what negative padding crops."""
    axis = Axis(14, 3, low=-1, window_dilation=5)
    x = normal(1, 1, 14)
    y = normal(1, 1, axis.output, seed=1)
    geometry = Geometry(1, 1, 1, 1, (axis,))
    expected = gather("spectra", "numpy", what_of(geometry, "float64"), geometry, x, y)
    x[..., [0, 4, 5, 9, 10]] = np.nan
    found = gather("spectra", "numpy", what_of(geometry, "float64"), geometry, x, y)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("spectra")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_what_is_not_finite_is_told(value: float) -> None:
    x, y = normal(50), normal(41, seed=1)
    x[20] = value
    with pytest.raises(ValueError, match=r"solve_kernel: loss is .* holds values that are not finite, or too large"):
        ac.solve_kernel(x, y, (10,))


def test_temporaries_stay_under_the_workspace() -> None:
    x, y = normal(1, 1, 2**20, dtype="float32"), normal(1, 1, 2**20 - 255, dtype="float32", seed=1)
    geometry = Geometry(1, 1, 1, 1, (Axis(2**20, 256),))
    room = 2**22
    what = what_of(geometry, "float64", tile=room // 4, room=room)
    tracemalloc.start()
    try:
        gather("spectra", "numpy", what, geometry, x, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= room, f"{peak / 2**20:.2f} MiB"


# Transformations of JAX


def test_sums_in_jax_under_transformations() -> None:
    geometry, x, y = problem("asymmetric padding")
    what, backend = what_of(geometry, "float64", True), library_backend("jax")
    stack = jnp.stack([jnp.asarray(x), 2 * jnp.asarray(x[..., ::-1])])

    def total(way: str, x: Any) -> Any:
        return backend.sum_windows(WAYS[way].gather, what, backend, geometry.axes, x, jnp.asarray(y))

    np.testing.assert_array_equal(
        jnp.round(jax.jit(jax.vmap(partial(total, "spectra")))(stack)), jax.vmap(partial(total, "tiles"))(stack)
    )
    weights = normal(what.size(geometry.axes))
    slopes = [jax.grad(lambda x, way=way: weights @ total(way, x))(stack[0]) for way in WAYS]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-10)


# The choice


def geometry_of(size: tuple[int, ...], window: tuple[int, ...], **options: Any) -> Geometry:
    return ac.plan(ac.correlate, size, window, **options).program.geometry


@pytest.mark.parametrize(
    ("size", "window", "expected"),
    [
        ((512, 512), (7, 7), "tiles"),
        ((512, 512), (31, 31), "spectra"),
        ((1024, 1024), (63, 63), "spectra"),
        ((31, 31), (31, 31), "tiles"),
        ((10**6,), (16,), "tiles"),
        ((10**6,), (1024,), "spectra"),
        ((10**9,), (1024,), "spectra"),
        ((64, 64, 64), (3, 3, 3), "tiles"),
        ((96, 96, 96), (9, 9, 9), "spectra"),
    ],
)
def test_long_windows_are_transformed(size: Any, window: Any, expected: str) -> None:
    geometry = geometry_of(size, window)
    work, way = cheapest_way(what_of(geometry, "float64"), library_backend("numpy"), geometry)
    assert way == expected
    assert work == min(row.work(what_of(geometry, "float64"), geometry) for row in WAYS.values())


def test_what_is_left_to_tiles() -> None:
    """Strides, holes, nothing at all, libraries without transforms, and windows too long for the memory."""
    numpy = library_backend("numpy")
    for options in ({"stride": 2}, {"stride": (1, 2)}):
        geometry = geometry_of((512, 512), (31, 31), **options)
        assert cheapest_way(what_of(geometry, "float64"), numpy, geometry)[1] == "tiles"
    holes = Geometry(1, 1, 1, 1, (Axis(10**5, 1024, base_dilation=2),))
    assert cheapest_way(what_of(holes, "float64"), numpy, holes)[1] == "tiles"
    empty = Geometry(0, 1, 1, 1, (Axis(10**5, 1024),))
    assert cheapest_way(what_of(empty, "float64"), numpy, empty)[1] == "tiles"
    geometry = geometry_of((512, 512), (31, 31))
    without: Any = type("Backend", (), {"xp": object()})
    assert cheapest_way(what_of(geometry, "float64"), without, geometry)[1] == "tiles"
    assert cheapest_way(what_of(geometry, "float64", tile=2**14, room=2**16), numpy, geometry)[1] == "tiles"


def test_tiles_are_as_large_as_a_compiler_likes() -> None:
    geometry = geometry_of((10**6,), (256,))
    eager = what_of(geometry, "float64")
    (length,), _ = cut(eager, geometry)
    (unrolled,), _ = cut(eager._replace(tile=2**24, is_unrolled=True), geometry)
    assert 2 * 256 < length < unrolled
    assert unrolled > 10**5


# Fits


def test_a_kernel_of_31_by_31_from_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """By both ways to the same kernel, which makes the blurred image out of the photograph."""
    taken: list[str] = []
    for name, way in WAYS.items():
        noted = lambda *given, n=name, w=way: taken.append(n) or w.gather(*given)  # noqa: E731
        monkeypatch.setitem(WAYS, name, way._replace(gather=noted))
    x = np.asarray(data.camera()[100:350, 100:350] / 255 + 0.01 * normal(250, 250), "float32")
    kernel = np.asarray(normal(31, 31) / 31, "float32")
    y = ac.correlate(x, kernel)
    fit = ac.solve_kernel(x, y, (31, 31))
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-5)
    gram = ac.gram(ac.correlate, x, y, (31, 31))
    fit = ac.learn_from(gram, steps=200)
    steps = ac.learn_kernel(x, y, (31, 31), steps=3, method="steps", init=fit.kernel).losses[0]
    np.testing.assert_allclose(fit.loss, steps, rtol=1e-3)
    assert taken == ["spectra"] * 2
