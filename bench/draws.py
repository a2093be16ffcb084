"""Random geometries: of anything, and of what one part of the cost model or one kind of user's work has."""

from __future__ import annotations

import random
from math import log, prod
from typing import NamedTuple

import numpy as np

from arrayconv.geometry import Geometry, WindowDimension, dilated


class Draw(NamedTuple):
    """Multiply-adds that are drawn, and the seconds of the fastest algorithm beyond which a geometry is drawn again.

    With ``taps``, all windows have that many, stride 1 and dilation 1. ``gradient``: of kernels, whose windows are as
    large as the image. ``grouped``: of groups with multiples of 4 channels, as networks have them; ``layers``: of one
    group with multiples of 16. ``thin``: of images. ``network``: see `draw_network`, which has its own work;
    ``transposed`` ones have stride 2, ``batches`` are of several images and taps, ``training`` are gradients only, of
    signals too. ``signals``: of one axis and one channel. ``everyday``: see `draw_everyday`, which has its own work
    too; ``depthwise`` ones have a group each, and ``transposed`` ones any stride. ``accuracy``: what is asked of the
    algorithms; "normwise" is Winograd's.
    """

    work: tuple[float, float]
    shortest: float
    longest: float
    taps: int | None = None
    gradient: bool = False
    grouped: bool = False
    layers: bool = False
    thin: bool = False
    network: bool = False
    transposed: bool = False
    batches: bool = False
    signals: bool = False
    everyday: bool = False
    depthwise: bool = False
    training: bool = False
    accuracy: str = "elementwise"


USUAL = Draw((3e5, 4e9), 1e-4, 6e-2)

#: What a call itself costs, what Winograd's algorithm does, gradients of kernels, groups of several channels, layers of
#: many channels, those with windows of one tap, gradients of image filters, networks and their gradients, decoders,
#: networks' layers of several images, signals, calls of any size and gradients, the same of depthwise layers and of
#: transposed ones, gradients of networks.
DRAWS = {
    "small": Draw((10, 3e5), 1e-6, 1e-3),
    "normwise": Draw((3e6, 4e9), 1e-4, 6e-2, taps=3, accuracy="normwise"),
    "gradient": Draw((3e5, 4e9), 1e-4, 6e-2, gradient=True),
    "grouped": Draw((3e6, 4e9), 1e-4, 6e-2, taps=3, grouped=True),
    "layers": Draw((3e6, 4e9), 1e-4, 6e-2, taps=3, layers=True, accuracy="normwise"),
    "pointwise": Draw((3e6, 4e9), 1e-4, 6e-2, taps=1, layers=True),
    "thin": Draw((3e6, 2e9), 1e-4, 1e-1, gradient=True, thin=True),
    "network": Draw((0, 0), 1e-4, 6e-2, network=True),
    "transposed": Draw((0, 0), 1e-4, 6e-2, network=True, transposed=True),
    "batches": Draw((0, 0), 1e-4, 6e-2, network=True, batches=True),
    "signals": Draw((30, 3e8), 1e-6, 6e-2, thin=True, signals=True),
    "everyday": Draw((0, 0), 2e-6, 2e-2, everyday=True),
    "depthwise": Draw((0, 0), 2e-6, 2e-2, everyday=True, depthwise=True),
    "upsampling": Draw((0, 0), 2e-6, 2e-2, everyday=True, transposed=True),
    "training": Draw((0, 0), 2e-5, 2e-1, network=True, training=True),
}

#: Elements of an array at most.
MOST_ELEMENTS = 2**24


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """Every octave is as likely as every other."""
    return float(np.exp(rng.uniform(log(low), log(high))))


def draw_channels(rng: random.Random) -> tuple[int, int, int]:
    """Groups, and channels in and out of each: of an image filter, a layer, depthwise, grouped, first or last layer."""

    def draw(high: int) -> int:
        return round(log_uniform(rng, 1, high))

    kind = rng.choice(("filter", "dense", "dense", "depthwise", "grouped", "thin"))
    if kind == "filter":
        return 1, 1, 1
    if kind == "depthwise":
        return round(log_uniform(rng, 2, 256)), 1, rng.choice((1, 1, 1, 2))
    if kind == "grouped":
        return draw(32), draw(16), draw(16)
    if kind == "thin":
        return 1, *rng.choice(((rng.randint(1, 4), draw(256)), (draw(256), rng.randint(1, 4))))
    return 1, draw(256), draw(256)


def draw_groups(rng: random.Random) -> tuple[int, int, int]:
    groups, inputs, outputs = (round(log_uniform(rng, 1, high)) for high in (32, 8, 8))
    return 1 + groups, 4 * inputs, 4 * outputs


def draw_layers(rng: random.Random) -> tuple[int, int, int]:
    inputs, outputs = (16 * round(log_uniform(rng, 1, 32)) for _ in range(2))
    return 1, inputs, outputs


def draw_window(rng: random.Random, ndim: int) -> list[int]:
    """1 to 63 taps an axis, not more than 63 x 63 in all; often the same on every axis."""
    most = {1: 63, 2: 63, 3: 9}[ndim]
    taps = [round(log_uniform(rng, 1, most)) for _ in range(ndim)]
    if rng.random() < 0.7:
        taps = [taps[0]] * ndim
    if ndim == 1 and rng.random() < 0.2:
        taps = [round(log_uniform(rng, 64, 2048))]
    return taps


def draw_geometry(rng: random.Random, draw: Draw = USUAL) -> Geometry | None:
    """None where the arrays are too large or too small for the work, or the geometry is none of the draw's."""
    if draw.everyday:
        geometry = draw_everyday(rng, draw)
    else:
        geometry = draw_network(rng, draw) if draw.network else draw_any(rng, draw)
    if geometry is None or (draw.batches and (geometry.batch == 1 or geometry.taps == 1)):
        return None
    largest = max(map(prod, (geometry.x_shape, geometry.kernel_shape, geometry.y_shape)))
    return geometry if largest <= MOST_ELEMENTS and min(geometry.out) >= 1 else None


#: As in VGG, ResNet, U-Net, Inception and EfficientNet: channels, of a first layer's input too, and sizes of images.
CHANNELS = (16, 32, 32, 48, 64, 64, 96, 128, 128, 192, 256, 256, 384, 512)
SIDES = (7, 8, 14, 14, 16, 28, 28, 32, 56, 56, 64, 112, 128, 224)


#: Lengths of signals, and taps of their layers.
LENGTHS, TAPS = (49, 98, 300, 1000, 3000, 8000, 16000), (1, 3, 3, 5, 7, 11, 15, 31)


def draw_network(rng: random.Random, draw: Draw) -> Geometry:
    """A layer with as much padding as keeps the size, one group; a third are gradients of x or of the kernel. Or one
    that doubles the size of an image.
    """
    inputs, outputs = rng.choice((1, 3, *CHANNELS)), rng.choice(CHANNELS)
    taps, stride = rng.choice((1, 1, 3, 3, 3, 3, 5, 7)), rng.choice((1, 1, 1, 2))
    dilation, side = rng.choice((1, 1, 1, 1, 2)), rng.choice(SIDES)
    batch = rng.choice((1, 1, 4, 8, 8, 16, 32))
    is_signal = draw.training and rng.random() < 0.3
    if is_signal:
        taps, side = rng.choice(TAPS), rng.choice(LENGTHS)
    if draw.transposed:
        taps, stride, dilation = rng.choice((2, 2, 3, 4, 4, 5)), 2, 1
    padding = 0 if taps == 1 else dilation * ((taps - 1) // 2 if draw.transposed else taps // 2)
    axis = WindowDimension(side, taps, stride, padding, padding, dilation if taps > 1 else 1)
    geometry = Geometry(batch, 1, inputs, outputs, (axis,) if is_signal else (axis, axis))
    if draw.transposed:
        return geometry.input_transpose()
    if draw.training:
        return rng.choice((geometry.input_transpose(), geometry.kernel_transpose(), geometry.kernel_transpose()))
    return rng.choice((geometry,) * 4 + (geometry.input_transpose(), geometry.kernel_transpose()))


def draw_everyday(rng: random.Random, draw: Draw) -> Geometry | None:
    """Sizes that know nothing of each other, mostly small; half are gradients of x or of the kernel, or all of x."""
    ndim = rng.choice((1, 2, 2, 3))
    groups, inputs, outputs = (round(log_uniform(rng, 2, 512)), 1, 1) if draw.depthwise else draw_channels(rng)
    sides = [round(log_uniform(rng, 4, {1: 20000, 2: 300, 3: 64}[ndim])) for _ in range(ndim)]
    window = [rng.choice((1, 2, 3, 3, 3, 4, 5, 7, 9) if ndim > 1 else (1, 2, 3, 5, 7, 9, 16, 31, 64)) for _ in sides]
    if rng.random() < 0.7:
        sides, window = [sides[0]] * ndim, [window[0]] * ndim
    stride, dilation, padding = rng.choice((1, 1, 1, 2, 2, 3, 4)), rng.choice((1, 1, 1, 1, 2)), rng.choice((0, 0, 1, 2))
    is_same, axes = rng.random() < 0.2, []
    for size, taps in zip(sides, window, strict=True):
        low = dilated(taps, dilation) // 2 if is_same else min(padding, taps - 1)
        axes.append(WindowDimension(size, taps, stride, low, low, dilation))
    geometry = Geometry(rng.choice((1, 1, 2, 4, 8, 16, 32)), groups, inputs, outputs, tuple(axes))
    if min(geometry.out) < 1 or (draw.transposed and stride == 1):
        return None
    if draw.transposed:
        return geometry.input_transpose()
    return rng.choice((geometry, geometry, geometry.input_transpose(), geometry.kernel_transpose()))


def draw_any(rng: random.Random, draw: Draw) -> Geometry | None:
    """Any number of axes, with the work that ``draw`` has; None where no size gives that."""
    ndim = 1 if draw.signals else rng.choice((1, 2, 2, 3))
    draws = ((draw.grouped, draw_groups), (draw.layers, draw_layers), (True, draw_channels))
    groups, inputs, outputs = (1, 1, 1) if draw.thin else next(own for is_own, own in draws if is_own)(rng)
    window = [draw.taps] * ndim if draw.taps else draw_window(rng, ndim)
    batch = rng.choice((1, 1, 2, 4, 8, 32))
    stride = 1 if draw.taps else rng.choice((1, 1, 1, 1, 2, 3, 4))
    dilation = 1 if draw.taps else rng.choice((1, 1, 1, 1, 1, 2, 4))
    positions = log_uniform(rng, *draw.work) / (batch * groups * inputs * outputs * prod(window))
    side = round(positions ** (1 / ndim))
    if side < 1:
        return None
    axes = []
    for taps in window:
        span = dilated(taps, dilation)
        padding = rng.choice((0, span // 2, span // 2, span - 1))
        size = dilated(side, stride) + span - 1 - 2 * padding
        if size < 1:
            return None
        axes.append(WindowDimension(size, taps, stride, padding, padding, dilation))
    geometry = Geometry(batch, groups, inputs, outputs, tuple(axes))
    if rng.random() < 0.2 and not draw.taps:
        geometry = geometry.input_transpose()
    return geometry.kernel_transpose() if draw.gradient else geometry
