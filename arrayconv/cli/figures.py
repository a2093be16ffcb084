"""The figures of ``--plot``, drawn by matplotlib without a window or a state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels import edges, sobel
from ..operations.correlate import correlate
from .files import require, written
from .photo import read_gray, sample_photo

Array = Any

#: Colours of signed values: red below zero, white, blue above.
SIGNED = "RdBu"

#: Most rows and columns of a kernel whose numbers are written into its cells.
LEGIBLE = 7


def strongest(values: Array) -> float:
    """Where a colour map ends: the strongest percent saturates, or a few strong edges would leave the rest pale."""
    return float(np.percentile(abs(values), 99)) or 1.0


def _show(axes: Any, title: str, values: Array, colors: str, low: float, high: float) -> Any:
    """One panel without ticks; the drawn image, for a colour bar."""
    drawn = axes.imshow(values, cmap=colors, vmin=low, vmax=high)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return drawn


def _bar(drawn: Any) -> None:
    """The scale of a panel's colours, to its right."""
    drawn.axes.figure.colorbar(drawn, ax=drawn.axes, shrink=0.8)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed")


def _save(figure: Any, path: Path) -> None:
    with written("--plot", path) as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")


def _tallness(image: Array) -> float:
    """Height by width of a panel that shows ``image``, within what a figure can hold."""
    height, width = image.shape
    return float(min(max(height / width, 0.2), 3))


def _edge_panels(image: Array) -> Iterator[tuple[str, Array, str, float, float]]:
    """Title, values, colour map and its limits, of each part of the figure."""

    def response(kernel: Array) -> Array:
        return correlate(image, kernel, padding="same", boundary="edge")

    yield "photograph", image, "gray", image.min(), image.max()
    kernel = edges(like=image)
    for title, derivative in (("vertical edges, [[1, -1]]", kernel), ("horizontal edges, [[1], [-1]]", kernel.T)):
        values = response(derivative)
        limit = strongest(values)
        yield f"{title}: blue from light to dark", values, SIGNED, -limit, limit
    magnitude = np.hypot(response(sobel(0, like=image)), response(sobel(1, like=image)))
    yield "magnitude of Sobel's gradient", magnitude, "gray_r", 0, strongest(magnitude)


def draw_edges(photo: str | None, plot: Path) -> None:
    """Write a PNG: a photograph, its vertical and horizontal edges by the notebook's kernel, Sobel's magnitude."""
    require("--plot", "PIL", "matplotlib")
    image = sample_photo() if photo is None else read_gray(photo)
    figure = _figure(9, 9 * _tallness(image) + 0.6)
    for axes, panel in zip(figure.subplots(2, 2).flat, _edge_panels(image), strict=True):
        _show(axes, *panel)
    _save(figure, plot)


def _draw_kernel(axes: Any, kernel: Array) -> None:
    """The kernel in signed colours, its numbers in the cells where they are few."""
    limit = float(abs(kernel).max()) or 1.0
    _bar(_show(axes, "kernel {}x{}".format(*kernel.shape), kernel, SIGNED, -limit, limit))
    if max(kernel.shape) <= LEGIBLE:
        for (row, column), weight in np.ndenumerate(kernel):
            color = "white" if abs(weight) > 0.6 * limit else "black"
            axes.text(column, row, f"{weight:.2g}", ha="center", va="center", color=color, fontsize=8)


def _draw_losses(axes: Any, losses: Array, tallness: float) -> None:
    axes.plot(losses, color="tab:blue")
    if losses.max() > 10 * losses.min() > 0:
        axes.set_yscale("log")
    axes.set_xscale("symlog", linthresh=1)  # most of a descent is in its first steps, and these begin with 0
    axes.set_xlim(0, max(len(losses) - 1, 1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_box_aspect(tallness)
    axes.set_title("mean squared error", fontsize=10)
    axes.set_xlabel("steps")
    axes.grid(alpha=0.3)


def draw_fit(plot: Path, photo: Array, target: Array, prediction: Array, kernel: Array, losses: Array) -> None:
    """Write a PNG: the images of a fit, what the prediction lacks, the kernel, and the loss after every step."""
    tallness, residual = _tallness(photo), target - prediction
    figure = _figure(12, 7.2 * tallness + 1.2)
    images, (difference, weights, descent) = figure.subplots(2, 3)
    low, high, limit = target.min(), target.max(), strongest(residual)
    panels = (("input", photo, photo.min(), photo.max()), ("target", target, low, high))
    for axes, (title, values, *limits) in zip(images, (*panels, ("prediction", prediction, low, high)), strict=True):
        _bar(_show(axes, title, values, "gray", *limits))
    _bar(_show(difference, "residual: target - prediction", residual, SIGNED, -limit, limit))
    _draw_kernel(weights, kernel)
    _draw_losses(descent, losses, tallness)
    _save(figure, plot)
