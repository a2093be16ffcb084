"""Photographs in, figures out. Pillow, matplotlib and scikit-image are imported where they are used."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels import edges, sobel
from ..operations.correlate import correlate
from . import UsageError

Array = Any

#: Longest side of a photograph in a figure, in pixels: what a panel can show.
LONGEST = 1024

#: module: the name by which it is installed.
PACKAGES = {"PIL": "pillow", "matplotlib": "matplotlib"}


def png_path(text: str) -> Path:
    """An argparse type: where a PNG can be written."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise ArgumentTypeError(f"{text!r} must end in .png")
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"{str(path.parent)!r} is not a directory")
    return path


def require(option: str) -> None:
    """`UsageError` with what to install, where Pillow or matplotlib is missing."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise UsageError(f"{option} needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")


def read_gray(path: str) -> Array:
    """A photograph as a float32 matrix of its luminance, upright, no side longer than `LONGEST`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            # "L" has 8 bits: images of 16 or 32 bits a pixel, which hold no colour, keep theirs.
            image = image.convert("F" if image.mode[0] in "IF" else "L")
            image.thumbnail((LONGEST, LONGEST))
            return np.asarray(image, np.float32)
    except (OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"--photo {path}: {getattr(error, 'strerror', None) or error}") from error


def sample_photo() -> Array:
    """The photograph that comes with scikit-image."""
    try:
        from skimage import data
    except ImportError:
        raise UsageError("--plot needs a photograph: pass --photo FILE, or run: pip install scikit-image") from None
    load: Callable[[], Array] = data.camera
    return load().astype(np.float32)


def _panels(image: Array) -> Iterator[tuple[str, Array, str, float, float]]:
    """Title, values, colour map and its limits, of each part of the figure."""

    def response(kernel: Array) -> Array:
        return correlate(image, kernel, padding="same", boundary="edge")

    yield "photograph", image, "gray", image.min(), image.max()
    kernel = edges(like=image)
    for title, derivative in (("vertical edges, [[1, -1]]", kernel), ("horizontal edges, [[1], [-1]]", kernel.T)):
        values = response(derivative)
        limit = strongest(values)
        yield f"{title}: blue from light to dark", values, "RdBu", -limit, limit
    magnitude = np.hypot(response(sobel(0, like=image)), response(sobel(1, like=image)))
    yield "magnitude of Sobel's gradient", magnitude, "gray_r", 0, strongest(magnitude)


def strongest(values: Array) -> float:
    """Where a colour map ends: the strongest percent saturates, or a few strong edges would leave the rest pale."""
    return float(np.percentile(abs(values), 99)) or 1.0


def draw_edges(photo: str | None, plot: Path) -> None:
    """Write a PNG: a photograph, its vertical and horizontal edges by the notebook's kernel, Sobel's magnitude."""
    require("--plot")
    from matplotlib.figure import Figure

    image = sample_photo() if photo is None else read_gray(photo)
    height, width = image.shape
    figure = Figure(figsize=(9, 9 * min(max(height / width, 0.2), 3) + 0.6), layout="constrained")
    for axes, (title, values, colors, low, high) in zip(figure.subplots(2, 2).flat, _panels(image), strict=True):
        axes.imshow(values, cmap=colors, vmin=low, vmax=high)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    try:
        figure.savefig(plot, format="png", dpi=120)
    except OSError as error:
        raise UsageError(f"--plot {plot}: {error.strerror or error}") from error
