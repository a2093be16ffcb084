"""``python -m arrayconv learn photo.png target.png --shape 9x9``: the kernel that makes one image out of another."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..boundary import BOUNDARIES
from ..learn import Fit, Optimizer, learn_kernel, sgd
from ..operations.correlate import correlate
from . import UsageError
from .figures import draw_fit
from .files import new_file, require, written
from .filter import PADDING
from .photo import read_unit_gray
from .plan import read_shape

Array = Any

#: Of Nesterov's descent: neighbours in a photograph are alike, so most directions are some 10,000 times flatter than
#: the steepest, and plain descent would crawl along them.
MOMENTUM = 0.97

#: Enough for a blur of 9x9 on a photograph to come as close as least squares; by normal equations 0.1 s.
STEPS = 3000


def read_window(text: str) -> tuple[int, ...]:
    """``9x9`` as ``(9, 9)``."""
    window = read_shape(text)
    if len(window) != 2 or 0 in window:
        raise ArgumentTypeError(f"{text!r} is not the shape of a kernel; write two sizes with x between, as in 9x9")
    return window


def safe_descent(photo: Array, window: tuple[int, ...], boundary: str) -> Optimizer:
    """Nesterov's descent by the inverse of a bound of the loss's curvature.

    The loss mean |A k - y|^2 has the Hessian H = 2 A'A / n, whose greatest eigenvalue is at most its trace,
    2 / n times the sum of the squares in every window. Below 4 / (3 |H|) the method is stable with any momentum < 1.
    """
    ones = np.ones(window, photo.dtype)
    trace = 2 * float(correlate(photo * photo, ones, padding=PADDING, boundary=boundary).mean(dtype=np.float64))
    return sgd(1 / trace if trace > 0 else 0.0, momentum=MOMENTUM, nesterov=True)


def _print_losses(losses: Array) -> None:
    """The first, the last, and between them steps of about half a power of ten."""
    last = len(losses) - 1
    chosen = {0, last} | {step for power in range(9) for step in (10**power, 3 * 10**power) if step < last}
    print("  steps  mean squared error")
    for step in sorted(chosen):
        print(f"{step:7}  {losses[step]:.6g}")


def tell(fit: Fit) -> Array:
    """Print what was learned; the loss after 0, 1, 2 ... steps."""
    losses = np.append(fit.losses, fit.loss)
    _print_losses(losses)
    print(f"root mean square error {losses[-1] ** 0.5:.4g}, where black is 0 and white is 1")
    kernel = np.array2string(fit.kernel, max_line_width=110, precision=4, suppress_small=True, threshold=400)
    print(f"kernel, of sum {fit.kernel.sum():.4g}:\n{kernel}")
    return losses


def add(parser: ArgumentParser) -> None:
    """The images, the kernel's shape, how to learn, what to write."""
    parser.epilog = (
        "Both images are read as grey, black as 0 and white as 1. The kernel brings "
        f'correlate(photo, kernel, padding="{PADDING}", boundary=...) close to the target in the mean square, by '
        "Nesterov's gradient descent from a kernel of zeros. What --save writes is for filter --kernel."
    )
    parser.add_argument("photo", help="the image that goes in")
    parser.add_argument("target", help="the image that should come out, of the same size")
    parser.add_argument("--shape", type=read_window, required=True, help="of the kernel, rows and columns: 9x9")
    parser.add_argument("--plot", type=new_file(".png"), metavar="FILE", help="draw images, kernel and loss as a PNG")
    parser.add_argument("--save", type=new_file(".npy"), metavar="FILE", help="write the kernel as numpy.save does")
    parser.add_argument(
        "--steps", type=int, default=STEPS, metavar="N", help="updates of the kernel (default: %(default)s)"
    )
    parser.add_argument(
        "--method", choices=("auto", "steps", "gram"), default="auto", help="of learn_kernel (default: %(default)s)"
    )
    parser.add_argument(
        "--boundary", choices=BOUNDARIES, default="reflect", help="what lies around the photo (default: %(default)s)"
    )


def run(args: Namespace) -> int:
    """Learn, print, draw, save."""
    require("learn", "PIL")
    if args.plot is not None:
        require("--plot", "matplotlib")
    photo, target = read_unit_gray("photo", args.photo), read_unit_gray("target", args.target)
    if photo.shape != target.shape:
        sizes = ["{1}x{0}".format(*image.shape) for image in (photo, target)]
        raise UsageError(f"photo has {sizes[0]} pixels, target {sizes[1]}; crop or scale one of them")
    options = {"padding": PADDING, "boundary": args.boundary}
    try:
        fit = learn_kernel(
            photo,
            target,
            args.shape,
            init=np.zeros(args.shape, np.float32),
            loss="mean",
            optimizer=safe_descent(photo, args.shape, args.boundary),
            steps=args.steps,
            method=args.method,
            progress=sys.stderr.isatty() and find_spec("tqdm") is not None,
            **options,
        )
        prediction = correlate(photo, fit.kernel, **options)
    except (MemoryError, TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    losses = tell(fit)
    if args.plot is not None:
        draw_fit(args.plot, photo, target, prediction, fit.kernel, losses)
    if args.save is not None:
        with written("--save", args.save) as file:
            np.save(file, fit.kernel)
    return 0
