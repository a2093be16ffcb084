"""Images of every mode, and what the tests of the commands on images share."""

from __future__ import annotations

import numpy as np
from PIL import Image

from arrayconv import cli

RNG = np.random.default_rng(0)

#: Ours: SciPy's name of the same boundary.
SCIPY = {"constant": "constant", "edge": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "grid-wrap"}

#: Mode: a suffix whose format holds it, the dtype of a band, and what is drawn from to fill it.
MODES = {
    "L": (".png", np.uint8, 256),
    "LA": (".png", np.uint8, 256),
    "RGB": (".png", np.uint8, 256),
    "RGBA": (".tif", np.uint8, 256),
    "CMYK": (".tif", np.uint8, 256),
    "I;16": (".png", np.uint16, 65536),
    "I": (".tif", np.int32, 2**31),
    "F": (".tif", np.float32, 1),
}


def make(mode, shape=(12, 17)):
    """An image of random pixels of the whole range of its mode."""
    _, dtype, top = MODES[mode]
    bands = [(top * RNG.random(shape)).astype(dtype) for _ in range(1 if ";" in mode else len(mode))]
    return Image.merge(mode, [Image.fromarray(band) for band in bands]) if len(bands) > 1 else Image.fromarray(bands[0])


def run(line, code=0):
    """A command line, and the exit code that it should have."""
    assert cli.main(line.split()) == code


def listing(folder):
    """Every file and its bytes."""
    return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
