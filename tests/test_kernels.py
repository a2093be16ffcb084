"""Kernels: the response of SciPy's and scikit-image's filters, on every library, in every dtype."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import skimage.filters
from conftest import LIBRARIES
from scipy.ndimage import gaussian_filter, laplace, uniform_filter

import arrayconv as ac
from arrayconv import kernels

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((12, 15))
VOLUME = RNG.standard_normal((7, 8, 9))

#: name: (image, kernel, padding, the peer's filter with its boundary's word)
FILTERS = {
    "sobel 0": (IMAGE, kernels.sobel(0), "same", lambda x, mode: scipy.ndimage.sobel(x, 0, mode=mode)),
    "sobel 1": (IMAGE, kernels.sobel(1), "same", lambda x, mode: scipy.ndimage.sobel(x, 1, mode=mode)),
    "sobel": (IMAGE, kernels.sobel(), "same", lambda x, mode: scipy.ndimage.sobel(x, mode=mode)),
    "prewitt -2": (IMAGE, kernels.prewitt(-2), "same", lambda x, mode: scipy.ndimage.prewitt(x, 0, mode=mode)),
    "prewitt": (IMAGE, kernels.prewitt(), "same", lambda x, mode: scipy.ndimage.prewitt(x, mode=mode)),
    "scharr 0": (IMAGE, kernels.scharr(0), "same", lambda x, mode: skimage.filters.scharr(x, axis=0, mode=mode)),
    "scharr": (IMAGE, kernels.scharr(), "same", lambda x, mode: skimage.filters.scharr(x, axis=1, mode=mode)),
    "laplacian": (IMAGE, kernels.laplacian(), "same", lambda x, mode: laplace(x, mode=mode)),
    "laplacian 1": (IMAGE[0], kernels.laplacian(1), "same", lambda x, mode: laplace(x, mode=mode)),
    "laplacian 3": (VOLUME, kernels.laplacian(ndim=3), "same", lambda x, mode: laplace(x, mode=mode)),
    "sharpen": (IMAGE, kernels.sharpen(0.7), "same", lambda x, mode: x - 0.7 * laplace(x, mode=mode)),
    "gaussian": (IMAGE, kernels.gaussian(1.2), "same", lambda x, mode: gaussian_filter(x, 1.2, mode=mode)),
    "gaussian axes": (
        IMAGE,
        kernels.gaussian((0.6, 0), truncate=2.5),
        "same",
        lambda x, mode: gaussian_filter(x, (0.6, 0), truncate=2.5, mode=mode),
    ),
    "gaussian 3": (VOLUME, kernels.gaussian(0.5, ndim=3), "same", lambda x, mode: gaussian_filter(x, 0.5, mode=mode)),
    "box": (IMAGE, kernels.box((3, 5)), "same", lambda x, mode: uniform_filter(x, (3, 5), mode=mode)),
    "box even": (IMAGE, kernels.box((4, 2)), "same_lower", lambda x, mode: uniform_filter(x, (4, 2), mode=mode)),
}

#: SciPy's words for the boundaries.
MODES = {"constant": "constant", "edge": "nearest", "symmetric": "reflect", "reflect": "mirror", "wrap": "wrap"}


@pytest.mark.parametrize("boundary", MODES)
@pytest.mark.parametrize("name", FILTERS)
def test_response_is_the_filters(name, boundary):
    image, kernel, padding, expected = FILTERS[name]
    response = ac.correlate(image, kernel, padding=padding, boundary=boundary)
    np.testing.assert_allclose(response, expected(image, MODES[boundary]), atol=1e-13)


@pytest.mark.parametrize("boundary", ["edge", "symmetric"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"frequency": 0.3},
        {"frequency": 0.4, "theta": 0.7, "offset": 0.5, "bandwidth": 1.5},
        {"frequency": 0.2, "theta": math.pi / 2, "sigma_x": 1.0, "sigma_y": 0.5, "n_stds": 2},
    ],
)
def test_gabor_gives_both_responses(parameters, boundary):
    response = ac.correlate(IMAGE, kernels.gabor(**parameters), padding="same", boundary=boundary)
    real, imaginary = skimage.filters.gabor(IMAGE, **parameters, mode=MODES[boundary])
    np.testing.assert_allclose(response.real, real, atol=1e-13)
    np.testing.assert_allclose(response.imag, imaginary, atol=1e-13)
    expected = skimage.filters.gabor_kernel(**parameters)[::-1, ::-1]
    np.testing.assert_allclose(kernels.gabor(**parameters), expected, atol=1e-15)


def test_edges_is_the_notebooks():
    assert kernels.edges().tolist() == [[1.0, -1.0]]


MAKERS = {
    "sobel": kernels.sobel,
    "scharr": kernels.scharr,
    "prewitt": kernels.prewitt,
    "laplacian": kernels.laplacian,
    "gaussian": lambda like=None: kernels.gaussian(1.0, like=like),
    "box": lambda like=None: kernels.box((2, 3), like=like),
    "sharpen": kernels.sharpen,
    "edges": kernels.edges,
}


@pytest.mark.parametrize("name", MAKERS)
def test_like_decides_library_and_dtype(name, library):
    for dtype in ("float32", "float64", "complex64"):
        like = library.asarray(np.ones(2), dtype)
        kernel = MAKERS[name](like=like)
        assert isinstance(kernel, type(like))
        assert kernel.dtype == like.dtype
        np.testing.assert_allclose(library.to_numpy(kernel), MAKERS[name](), rtol=1e-6)


def test_filter_runs_on_every_library(library):
    x = library.asarray(IMAGE)
    y = ac.correlate(x, kernels.sobel(like=x), padding="same", boundary="edge")
    np.testing.assert_allclose(library.to_numpy(y), scipy.ndimage.sobel(IMAGE, mode="nearest"), atol=1e-13)


def test_integers_take_the_default_float(library):
    like = library.asarray(np.ones(2, np.uint8))
    kernel = kernels.scharr(like=like)
    assert kernel.dtype == library.xp.zeros(1).dtype
    assert kernels.gabor(0.3, like=like).dtype == library.xp.result_type(kernel.dtype, library.xp.complex64)


@pytest.mark.parametrize(("kind", "dtype"), [("numpy", "float16"), ("torch", "bfloat16"), ("jax", "bfloat16")])
def test_half_types(kind, dtype):
    library = LIBRARIES[kind]
    like = library.asarray(np.ones(2), dtype)
    assert kernels.gaussian(1.0, like=like).dtype == like.dtype
    assert kernels.gabor(0.3, like=like).dtype == library.xp.complex64


def test_gabor_takes_the_precision(library):
    single, double = (library.asarray(np.ones(2), dtype) for dtype in ("float32", "float64"))
    assert kernels.gabor(0.3, like=single).dtype == library.xp.complex64
    assert kernels.gabor(0.3, like=double).dtype == library.xp.complex128


ERRORS = [
    (lambda: kernels.sobel(2), ValueError, "sobel: axis=2 is not an axis of a 2-D kernel; pass 0 or -2"),
    (lambda: kernels.prewitt(1.0), TypeError, "prewitt: axis must be an int, got 1.0"),
    (lambda: kernels.laplacian(0), ValueError, "laplacian: ndim must be >= 1, got 0"),
    (lambda: kernels.gaussian(-1.0), ValueError, "gaussian: sigma must be >= 0, got -1.0"),
    (lambda: kernels.gaussian(math.nan), ValueError, "gaussian: sigma must be finite, got nan"),
    (lambda: kernels.gaussian("a"), TypeError, "gaussian: sigma must be a number, got 'a' of type str"),
    (lambda: kernels.gaussian((1, 2, 3)), ValueError, r"sigma=\(1, 2, 3\) has 3 entries for ndim=2 axes; pass ndim=3"),
    (lambda: kernels.gaussian(1.0, truncate=-1), ValueError, "gaussian: truncate must be >= 0, got -1"),
    (lambda: kernels.box(3), TypeError, r"box: window must be a tuple of ints, got 3; write for example \(3,\)"),
    (lambda: kernels.box((3, 0)), ValueError, r"box: window\[1\] must be >= 1, got 0"),
    (lambda: kernels.box(()), ValueError, r"box: window=\(\) has no axis; pass one size an axis"),
    (lambda: kernels.sharpen(True), TypeError, "sharpen: amount must be a number, got True of type bool"),
    (lambda: kernels.gabor(0), ValueError, "gabor: frequency must be > 0, got 0"),
    (lambda: kernels.gabor(0.3, sigma_x=0), ValueError, "gabor: sigma_x must be > 0, got 0"),
    (lambda: kernels.edges(like=[1.0]), TypeError, "edges: like must be an array"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors_say_argument_value_and_rule(call, error, message):
    with pytest.raises(error, match=message):
        call()
