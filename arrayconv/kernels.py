"""Well-known kernels as arrays, meant for `correlate`: the response is that of SciPy's and scikit-image's filters.

    ac.correlate(image, ac.kernels.sobel(), padding="same", boundary="edge")
    == scipy.ndimage.sobel(image, axis=-1, mode="nearest")

SciPy and scikit-image call the boundaries differently: their "nearest" is "edge" here, "reflect" is
"symmetric", "mirror" is "reflect". Every kernel has odd sides and goes with ``padding="same"``, but for `edges`
and a `box` of even side, where SciPy puts the odd element in front: ``padding="same_lower"``.

``like=None`` gives a NumPy array of float64. An array for ``like`` gives the kernel in its library, on its
device and in its dtype; beside integers, whose type can hold neither a weight of 0.1 nor the negative response
of an unsigned image, in the library's default float. `gabor` is complex, of the precision of ``like``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from numbers import Real
from typing import Any

import numpy as np

from .arguments import read_int, read_ints
from .gather import gather_arrays

Array = Any
Values = np.ndarray[Any, np.dtype[Any]]


def read_number(op: str, name: str, value: Any, *, minimum: float = -math.inf, above: float = -math.inf) -> float:
    """A finite real number of Python's or NumPy's, ``>= minimum`` and ``> above``."""
    if isinstance(value, bool | np.bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number, got {value!r} of type {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{op}: {name} must be finite, got {number}")
    if number < minimum or number <= above:
        raise ValueError(
            f"{op}: {name} must be {f'>= {minimum:g}' if number < minimum else f'> {above:g}'}, got {number}"
        )
    return number


def as_like(op: str, values: Values, like: Array) -> Array:
    """Real or complex float64 ``values`` in the library, on the device and in the float dtype of ``like``."""
    if like is None:
        return values
    backend, (like,) = gather_arrays(op, ("like",), (like,))
    xp = backend.xp
    dtype = xp.zeros(0).dtype if xp.isdtype(like.dtype, "integral") else like.dtype
    if np.iscomplexobj(values):
        dtype = xp.result_type(dtype, xp.complex64)
    # NumPy rounds to single before the device sees the values: some devices have no float64, NumPy no bfloat16.
    if xp.finfo(dtype).bits < 64:
        values = values.astype(np.complex64 if np.iscomplexobj(values) else np.float32)
    return backend.cast(backend.from_numpy(values, like), dtype)


def _outer(factors: Iterable[Any]) -> Values:
    """The separable kernel with these factors, one an axis."""
    return reduce(np.multiply.outer, (np.asarray(factor, np.float64) for factor in factors))


def _derivative(op: str, smooth: Sequence[float], axis: int, like: Array) -> Array:
    """A central difference along ``axis``, ``smooth`` along the other of two."""
    axis = read_int(op, "axis", axis)
    if axis not in (-2, -1, 0, 1):
        raise ValueError(f"{op}: axis={axis} is not an axis of a 2-D kernel; pass 0 or -2 (rows), 1 or -1 (columns)")
    factors = [smooth, smooth]
    factors[axis] = (-1, 0, 1)
    return as_like(op, _outer(factors), like)


def sobel(axis: int = -1, *, like: Array = None) -> Array:
    """The derivative along ``axis``, smoothed across it by [1, 2, 1]: `scipy.ndimage.sobel`.

    `skimage.filters.sobel` divides by 4.

    >>> sobel()
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    """
    return _derivative("sobel", (1, 2, 1), axis, like)


def scharr(axis: int = -1, *, like: Array = None) -> Array:
    """The derivative along ``axis``, smoothed across it by [3, 10, 3] / 16: `skimage.filters.scharr(image, axis=axis)`.

    OpenCV's has the integers 3, 10, 3: multiply by 16. Source: H. Scharr, "Optimale Operatoren in der digitalen
    Bildverarbeitung", Heidelberg 2000.

    >>> 16 * scharr()
    array([[ -3.,   0.,   3.],
           [-10.,   0.,  10.],
           [ -3.,   0.,   3.]])
    """
    return _derivative("scharr", (3 / 16, 10 / 16, 3 / 16), axis, like)


def prewitt(axis: int = -1, *, like: Array = None) -> Array:
    """The derivative along ``axis``, summed across it over [1, 1, 1]: `scipy.ndimage.prewitt`.

    `skimage.filters.prewitt` divides by 3.

    >>> prewitt(axis=0)
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]])
    """
    return _derivative("prewitt", (1, 1, 1), axis, like)


def _laplacian(ndim: int) -> Values:
    identity, second = (0, 1, 0), (1, -2, 1)
    terms = [_outer(second if i == axis else identity for i in range(ndim)) for axis in range(ndim)]
    return np.asarray(sum(terms))


def laplacian(ndim: int = 2, *, like: Array = None) -> Array:
    """The sum of the second differences [1, -2, 1] along each of ``ndim`` axes: `scipy.ndimage.laplace`.

    `skimage.filters.laplace` has the opposite sign.

    >>> laplacian()
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    return as_like("laplacian", _laplacian(read_int("laplacian", "ndim", ndim, 1)), like)


def sharpen(amount: float = 1.0, *, like: Array = None) -> Array:
    """The image less ``amount`` times its Laplacian: ``image - amount * scipy.ndimage.laplace(image)``; 2-D.

    >>> sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    amount = read_number("sharpen", "amount", amount)
    return as_like("sharpen", _outer([(0, 1, 0)] * 2) - amount * _laplacian(2), like)


def _gaussian_factor(sigma: float, truncate: float) -> Values:
    radius = int(truncate * sigma + 0.5)
    taps = np.arange(-radius, radius + 1.0)
    weights: Values = np.exp(-0.5 * (taps / sigma) ** 2) if radius else np.ones(1)
    return np.asarray(weights / weights.sum())


def gaussian(sigma: float | Sequence[float], *, ndim: int = 2, truncate: float = 4.0, like: Array = None) -> Array:
    """The normal density cut at ``truncate`` standard deviations, of sum 1: `scipy.ndimage.gaussian_filter`.

    ``sigma`` is one number, or one for each of ``ndim`` axes; 0 leaves an axis as it is. The side of an axis is
    ``2 * int(truncate * sigma + 0.5) + 1``.

    >>> gaussian((0, 0.5), truncate=2).round(4)
    array([[0.1065, 0.787 , 0.1065]])
    """
    ndim = read_int("gaussian", "ndim", ndim, 1)
    sigmas = (sigma,) * ndim if isinstance(sigma, str) or not isinstance(sigma, Iterable) else tuple(sigma)
    if len(sigmas) != ndim:
        raise ValueError(
            f"gaussian: sigma={sigmas} has {len(sigmas)} entries for ndim={ndim} axes; pass ndim={len(sigmas)}"
        )
    truncate = read_number("gaussian", "truncate", truncate, minimum=0)
    widths = [read_number("gaussian", "sigma", width, minimum=0) for width in sigmas]
    return as_like("gaussian", _outer(_gaussian_factor(width, truncate) for width in widths), like)


def box(window: Sequence[int], *, like: Array = None) -> Array:
    """The mean over ``window``, one size an axis: `scipy.ndimage.uniform_filter`.

    >>> box((1, 4))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    sizes = read_ints("box", "window", window, 1)
    if not sizes:
        raise ValueError("box: window=() has no axis; pass one size an axis, for example (3, 3)")
    return as_like("box", np.full(sizes, 1 / math.prod(sizes)), like)


def edges(*, like: Array = None) -> Array:
    """Each element less its right neighbour: the kernel that finds vertical edges in the notebook.

    >>> edges()
    array([[ 1., -1.]])
    """
    return as_like("edges", np.array([[1.0, -1.0]]), like)


def gabor(
    frequency: float,
    theta: float = 0.0,
    bandwidth: float = 1.0,
    sigma_x: float | None = None,
    sigma_y: float | None = None,
    n_stds: float = 3.0,
    offset: float = 0.0,
    *,
    like: Array = None,
) -> Array:
    """A Gaussian times a complex wave of ``frequency`` cycles a pixel along ``theta``: `skimage.filters.gabor`.

    Complex: the real and the imaginary part of ``correlate``'s result are scikit-image's two responses. They
    are of a convolution, so this is `skimage.filters.gabor_kernel` flipped along both axes.

        g(-x, -y) = exp(-(u/sigma_x)^2 / 2 - (v/sigma_y)^2 / 2 + i (2 pi frequency u + offset)) / (2 pi sigma_x sigma_y)

    with (u, v) the coordinates (x, y) turned by ``theta``. A standard deviation of None follows from
    ``bandwidth``, in octaves: N. Petkov, "Biologically motivated computationally intensive approaches to image
    pattern recognition", 1995. The kernel reaches ``n_stds`` standard deviations to each side.

    >>> gabor(0.25, sigma_x=0.4, sigma_y=0.4, n_stds=1).imag.round(4)
    array([[ 0.0019,  0.    , -0.0019],
           [ 0.0437,  0.    , -0.0437],
           [ 0.0019,  0.    , -0.0019]])
    """
    frequency = read_number("gabor", "frequency", frequency, above=0)
    theta = read_number("gabor", "theta", theta)
    octaves = 2 ** read_number("gabor", "bandwidth", bandwidth, above=0)
    n_stds = read_number("gabor", "n_stds", n_stds, minimum=0)
    offset = read_number("gabor", "offset", offset)
    default = math.sqrt(math.log(2) / 2) * (octaves + 1) / (octaves - 1) / (math.pi * frequency)
    sx = default if sigma_x is None else read_number("gabor", "sigma_x", sigma_x, above=0)
    sy = default if sigma_y is None else read_number("gabor", "sigma_y", sigma_y, above=0)
    c, s = math.cos(theta), math.sin(theta)
    reach_x = math.ceil(max(n_stds * sx * abs(c), n_stds * sy * abs(s), 1))
    reach_y = math.ceil(max(n_stds * sy * abs(c), n_stds * sx * abs(s), 1))
    y, x = np.mgrid[reach_y : -reach_y - 1 : -1, reach_x : -reach_x - 1 : -1]
    u, v = x * c + y * s, y * c - x * s
    envelope = np.exp(-((u / sx) ** 2 + (v / sy) ** 2) / 2) / (2 * math.pi * sx * sy)
    return as_like("gabor", envelope * np.exp(1j * (2 * math.pi * frequency * u + offset)), like)
