"""How long ``import arrayconv`` takes above ``import numpy``: fresh processes, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from statistics import median
from tempfile import TemporaryDirectory

from bench import data

STATEMENTS = ("import numpy", "import arrayconv")

#: Prints the seconds from the first line to the last; the interpreter's own start is not in them.
CODE = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=10, help="processes for each statement (default: %(default)s)")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.json")


def run(args: Namespace) -> int:
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    with TemporaryDirectory() as bytecode:
        for turn in range(args.count + 1):
            for statement in STATEMENTS:
                taken = _seconds(statement, bytecode)
                if turn:  # the first round compiles, and fills the disk cache
                    times[statement].append(taken)
    middle = {statement: 1e3 * median(values) for statement, values in times.items()}
    above = middle["import arrayconv"] - middle["import numpy"]
    print("  ".join(f"{statement} {value:.1f} ms" for statement, value in middle.items()), f" above: {above:.1f} ms")
    if args.save:
        sink = data.Sink(args.save, "import", count=args.count)
        sink.add({"numpy": middle["import numpy"], "arrayconv": middle["import arrayconv"], "above": above})
        print(f"saved {sink.path}")
    return 0


def _seconds(statement: str, bytecode: str) -> float:
    """Modules are compiled into the directory, wherever they come from and whatever the environment says."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", CODE.format(statement)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
