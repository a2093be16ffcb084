"""Which convolutions PyTorch hands to oneDNN by itself."""

from __future__ import annotations

from math import prod

from .geometry import Geometry

#: Floats of an image that is worth the search for a way, and taps of the last two axes beyond which any image is.
SMALL, FEW = 20480, 3


def is_onednn(geometry: Geometry) -> bool:
    """A small image alone goes to a simpler way (``use_mkldnn`` in torch's aten/src/ATen/native/Convolution.cpp, which
    leaves out the last axis of a volume).
    """
    is_wide = min((1, *geometry.window)[-2:]) > FEW
    return geometry.groups > 1 or geometry.batch > 1 or is_wide or prod(geometry.x_shape[:4]) > SMALL
