"""Images in and out. Pillow and scikit-image are imported where they are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import UsageError
from .files import written

Array = Any
Image = Any

#: Longest side of a photograph in the figure of edges, in pixels: what a panel can show.
LONGEST = 1024

#: The value of white by the first letter of the mode; 255 in the others. Integers of 32 bits come from files of 16.
WHITE = {"I": 65535.0, "F": 1.0}


def read_image(name: str, path: str, *, deep: bool = False) -> Image:
    """The first frame of an image, upright; ``name`` is the argument's.

    Pillow keeps 8 bits a colour of 16: ``deep`` refuses what would lose some.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            if deep and file.mode[0] not in "IF" and any(";16" in str(tile) for tile in file.tile):
                raise UsageError(f"{name} {path} has 16 bits a colour, of which Pillow reads 8; convert it to 8 bits")
            return ImageOps.exif_transpose(file)
    # What Pillow raises for bytes that lie about themselves is no one class.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name} {path}: {getattr(error, 'strerror', None) or error}") from error


def to_gray(image: Image) -> Image:
    """Its luminance. "L" has 8 bits: images of 16 or 32 bits a pixel, which hold no colour, keep theirs."""
    return image.convert("F" if image.mode[0] in "IF" else "L")


def read_gray(path: str) -> Array:
    """The photograph of ``--photo`` as a float32 matrix of its luminance, no side longer than `LONGEST`."""
    image = to_gray(read_image("--photo", path))
    image.thumbnail((LONGEST, LONGEST))
    return np.asarray(image, np.float32)


def read_unit_gray(name: str, path: str) -> Array:
    """An image as a float32 matrix of its luminance: black is 0, white is 1."""
    image = read_image(name, path)
    return np.asarray(to_gray(image), np.float32) / np.float32(WHITE.get(image.mode[0], 255.0))


def sample_photo() -> Array:
    """The photograph that comes with scikit-image."""
    try:
        from skimage import data
    except ImportError:
        raise UsageError("--plot needs a photograph: pass --photo FILE, or run: pip install scikit-image") from None
    load: Callable[[], Array] = data.camera
    return load().astype(np.float32)


def image_format(name: str, path: Path) -> str:
    """Pillow's name of the format that the suffix stands for."""
    from PIL import Image

    found = Image.registered_extensions().get(path.suffix.lower())
    if found not in Image.SAVE:
        raise UsageError(f"{name} {path} must end as an image does, for example in .png, .jpg or .tif")
    return str(found)


def save_image(name: str, path: Path, image: Image, **options: Any) -> None:
    """Write an image in the format of the suffix."""
    form = image_format(name, path)
    with written(name, path) as file:
        try:
            image.save(file, format=form, **options)
        except ValueError as error:
            raise UsageError(f"{name} {path}: {error}") from error
