"""``python -m arrayconv plan 8x64x56x56 64x64x3x3 --stride 2 --library jax``: what `arrayconv.plan` prints.

``--tune`` times the algorithms first; ``--tuning FILE`` brings earlier times, ``--save FILE`` keeps all of them.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from ..operations.linear import Options
from ..operations.plan import plan
from ..operations.table import OPERATIONS
from ..operations.tune import tune
from ..planner import settings
from ..tuning import Tuning
from . import UsageError

#: Operations that are planned, by name.
PLANNED = {name: row.function for name, row in OPERATIONS.items() if row.read is not None}


def read_shape(text: str) -> tuple[int, ...]:
    """``8x64`` as ``(8, 64)``."""
    sizes = text.split("x")
    if not all(size.isdecimal() for size in sizes):
        raise ArgumentTypeError(f"{text!r} is not a shape; write sizes with x between, as in 8x64x56x56")
    return tuple(map(int, sizes))


def read_option(text: str) -> Any:
    """An int, a word, ``2,1`` as ``(2, 1)``, and ``0:1,2:3`` as ``((0, 1), (2, 3))``."""
    for separator in (",", ":"):
        if separator in text:
            return tuple(map(read_option, text.split(separator)))
    try:
        return int(text)
    except ValueError:
        return text


def add(parser: ArgumentParser) -> None:
    """Shapes, the operation, whose arrays, and every option that a planned operation can have."""
    parser.add_argument("shapes", nargs="+", type=read_shape, metavar="shape", help="of x, kernel and bias: 8x64x56x56")
    parser.add_argument("--op", choices=PLANNED, default="conv", metavar="NAME", help=f"one of {', '.join(PLANNED)}")
    parser.add_argument("--dtype", default="float32", help="of the arrays (default: %(default)s)")
    parser.add_argument("--library", default="numpy", help="of the arrays (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the arrays (default: %(default)s)")
    parser.add_argument("--tune", action="store_true", help="time the algorithms here instead of estimating")
    parser.add_argument("--tuning", metavar="FILE", help="times of earlier runs")
    parser.add_argument("--save", metavar="FILE", help="write the times of --tuning and --tune together")
    options = parser.add_argument_group(
        "options of the operation", "A number, a word, one number an axis (2,1), or one pair an axis (0:1,2:3)."
    )
    for name in Options._fields:
        options.add_argument(f"--{name.replace('_', '-')}", type=read_option, metavar="VALUE")


def run(args: Namespace) -> int:
    """Print the plan, from measured times where they are asked for."""
    given = {name: value for name in Options._fields if (value := getattr(args, name)) is not None}
    own = {"dtype": args.dtype, "library": args.library, "device": args.device}
    try:
        tuning = Tuning() if args.tuning is None else Tuning.load(args.tuning)
        if args.tune:
            tuning |= tune(PLANNED[args.op], *args.shapes, **own, **given)
        if args.save is not None:
            tuning.save(args.save)
        with settings(tuning=tuning):
            print(plan(PLANNED[args.op], *args.shapes, **own, **given))
    except (OSError, TypeError, ValueError) as error:
        raise UsageError(str(error).removeprefix("plan: ").removeprefix("tune: ")) from error
    return 0
