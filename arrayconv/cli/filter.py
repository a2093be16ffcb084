"""``python -m arrayconv filter photo.png edges.png --kernel sobel``: an image by one of the kernels, or by a file's."""

from __future__ import annotations

import math
import re
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..boundary import BOUNDARIES
from ..operations.correlate import correlate
from . import UsageError
from .files import new_file, require
from .photo import image_format, read_image, save_image

Array = Any
Image = Any
Kernels = Sequence[Array]

#: SciPy's centre of a kernel with an even side; with odd sides this is "same".
PADDING = "same_lower"


class Filter(NamedTuple):
    """How it is written, how many numbers it takes, its kernels by those, and what is written of their responses.

    ``magnitude`` writes the root of the responses' sum of squares, so of one response its absolute value: edge filters
    answer light to dark with the opposite sign of dark to light, and complex ones with a phase.
    """

    form: str
    counts: tuple[int, int]
    make: Callable[..., Kernels]
    magnitude: bool
    writes: str


def _gradient(kernel: Callable[[int], Array], weight: float) -> Callable[..., Kernels]:
    """Both axes, or the one that is named, on scikit-image's scale: no edge is stronger than from black to white."""

    def make(*axes: int) -> Kernels:
        axes = axes or (0, 1)
        return [kernel(axis) / (weight * math.sqrt(len(axes))) for axis in axes]

    return make


def _gaussian(*sigmas: float) -> Kernels:
    return [kernels.gaussian(sigmas if len(sigmas) > 1 else sigmas[0])]


def _box(*sizes: int) -> Kernels:
    return [kernels.box(sizes if len(sizes) > 1 else sizes * 2)]


def _one(kernel: Callable[..., Array]) -> Callable[..., Kernels]:
    return lambda *numbers: [kernel(*numbers)]


_STEEPNESS = "steepness, sqrt((rows^2 + columns^2) / 2); 0: along rows, 1: columns"

#: The kernels of `arrayconv.kernels` by name.
FILTERS = {
    "sobel": Filter("sobel[:AXIS]", (0, 1), _gradient(kernels.sobel, 4), True, _STEEPNESS),
    "scharr": Filter("scharr[:AXIS]", (0, 1), _gradient(kernels.scharr, 1), True, "the same with Scharr's weights"),
    "prewitt": Filter("prewitt[:AXIS]", (0, 1), _gradient(kernels.prewitt, 3), True, "the same with Prewitt's weights"),
    "laplacian": Filter("laplacian", (0, 0), _one(kernels.laplacian), True, "absolute sum of the second differences"),
    "edges": Filter("edges", (0, 0), _one(kernels.edges), True, "absolute difference to the left neighbour"),
    "gabor": Filter(
        "gabor:FREQUENCY[,THETA[,...]]",
        (1, 7),
        _one(kernels.gabor),
        True,
        "magnitude of the response to waves of FREQUENCY cycles a pixel",
    ),
    "gaussian": Filter("gaussian:SIGMA[,SIGMA]", (1, 2), _gaussian, False, "blurred; two numbers: rows, columns"),
    "box": Filter("box:ROWS[xCOLUMNS]", (1, 2), _box, False, "mean over a window"),
    "sharpen": Filter("sharpen[:AMOUNT]", (0, 1), _one(kernels.sharpen), False, "less AMOUNT (1) times the Laplacian"),
}

EPILOG = """what --kernel can be, and what is written:
{}

Every colour is filtered by itself, in float64, as scipy.ndimage.correlate does it. The result has the input's mode
and size: 8 or 16 bits a pixel (rounded, halves to even, and clipped to what the mode holds), or 32-bit floats; alpha
is copied. Palettes become the colours that they stand for, and images of two colours grey. The first frame is
read, upright; the suffix of the output says its format.
"""


def _load_kernel(path: str) -> Array:
    """A matrix of finite numbers, float64 or complex128, from a file of `numpy.save`; objects are never unpickled."""
    try:
        with open(path, "rb") as file:
            kernel = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise UsageError(f"--kernel {path}: {getattr(error, 'strerror', None) or error}") from error
    if kernel.ndim != 2 or not kernel.size or kernel.dtype.kind not in "iufc" or not np.isfinite(kernel).all():
        raise UsageError(
            f"--kernel {path} holds {kernel.dtype} of shape {kernel.shape}; a kernel is a matrix of finite numbers"
        )
    return kernel.astype(np.complex128 if kernel.dtype.kind == "c" else np.float64)


def read_filter(text: str) -> tuple[Kernels, bool]:
    """The kernels that ``--kernel`` names, and whether the magnitude of their responses is written."""
    if text.endswith(".npy"):
        kernel = _load_kernel(text)
        return [kernel], bool(np.iscomplexobj(kernel))
    name, _, rest = text.partition(":")
    if name not in FILTERS:
        raise UsageError(f"--kernel {text} is not one of {', '.join(FILTERS)}, nor a file that ends in .npy")
    row = FILTERS[name]
    try:
        numbers = [float(word) if re.search("[.e]", word) else int(word) for word in re.split("[x,]", rest) if rest]
    except ValueError:
        numbers = []
    if not row.counts[0] <= len(numbers) <= row.counts[1] or bool(numbers) != (":" in text):
        raise UsageError(f"--kernel {text} is not of the form {row.form}, with numbers for the capitals")
    try:
        return row.make(*numbers), row.magnitude
    except (TypeError, ValueError) as error:
        raise UsageError(f"--kernel {text}: {error}") from error


def filter_values(values: Array, kernels: Kernels, magnitude: bool, boundary: str) -> Array:
    """A matrix filtered in float64, in the matrix's own dtype: integers rounded, halves to even, and clipped."""
    exact = values.astype(np.float64)
    responses = (correlate(exact, kernel, padding=PADDING, boundary=boundary) for kernel in kernels)
    y = reduce(np.hypot, map(abs, responses)) if magnitude else next(responses)
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        y = np.clip(np.rint(y), limits.min, limits.max)
    return y.astype(values.dtype.newbyteorder("="))


def _settle_mode(image: Image) -> Image:
    """In a mode whose bands are quantities: colours for indices, alpha for one colour that stands for clear."""
    colors = {"1": "L", "P": "RGB", "PA": "RGB"}.get(image.mode, image.mode)
    if colors in ("L", "RGB") and image.has_transparency_data:
        colors += "A"
    return image if colors == image.mode else image.convert(colors)


def filter_image(image: Image, kernels: Kernels, magnitude: bool, boundary: str) -> Image:
    """Each band but alpha filtered by itself."""
    from PIL import Image

    image = _settle_mode(image)
    bands = [
        band if name == "A" else Image.fromarray(filter_values(np.asarray(band), kernels, magnitude, boundary))
        for name, band in zip(image.getbands(), image.split(), strict=True)
    ]
    return Image.merge(image.mode, bands) if len(bands) > 1 else bands[0]


def add(parser: ArgumentParser) -> None:
    """The images, the kernel, the boundary."""
    parser.formatter_class = RawDescriptionHelpFormatter
    width = max(len(row.form) for row in FILTERS.values())
    rows = [f"  {row.form:{width}}  {row.writes}" for row in FILTERS.values()]
    rows += [f"  {'FILE.npy':{width}}  response to a matrix from numpy.save; to a complex one its magnitude"]
    parser.epilog = EPILOG.format("\n".join(rows))
    parser.add_argument("photo", help="the image to filter")
    parser.add_argument("output", type=new_file(), help="the image to write, for example edges.png")
    parser.add_argument("--kernel", required=True, metavar="KERNEL", help="for example sobel, gaussian:2.0, box:5x5")
    parser.add_argument(
        "--boundary", choices=BOUNDARIES, default="reflect", help="what lies around the image (default: %(default)s)"
    )


def run(args: Namespace) -> int:
    """Write the filtered image."""
    require("filter", "PIL")
    image_format("output", args.output)
    kernels, magnitude = read_filter(args.kernel)
    image = read_image("photo", args.photo, deep=True)
    try:
        result = filter_image(image, kernels, magnitude, args.boundary)
    except MemoryError as error:
        raise UsageError(f"not enough memory for {image.width}x{image.height} pixels: {error}") from error
    profile = image.info.get("icc_profile")
    save_image("output", args.output, result, **({} if profile is None else {"icc_profile": profile}))
    return 0
