"""What a command needs installed, and the files that it writes: whole, or not at all."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from . import UsageError

#: module: the name by which it is installed.
PACKAGES = {"PIL": "pillow", "matplotlib": "matplotlib", "jax": "jax", "sklearn": "scikit-learn"}


def require(what: str, *modules: str) -> None:
    """`UsageError` with what to install for ``what``, an option or a command, where a module is missing."""
    missing = [PACKAGES[module] for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(f"{what} needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")


def new_file(suffix: str = "") -> Callable[[str], Path]:
    """An argparse type: where a file can be written, whose name ends in ``suffix``."""

    def read(text: str) -> Path:
        path = Path(text)
        if not path.suffix.lower().endswith(suffix):
            raise ArgumentTypeError(f"{text!r} must end in {suffix}")
        if not path.parent.is_dir():
            raise ArgumentTypeError(f"{str(path.parent)!r} is not a directory")
        if path.exists() and not path.is_file():
            raise ArgumentTypeError(f"{text!r} is there and is not a file")
        return path

    return read


@contextmanager
def written(option: str, path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` once it is complete; no error leaves a part of it."""
    target = path.resolve()  # a link stays one
    part = target.with_name(f".arrayconv-{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(target)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
