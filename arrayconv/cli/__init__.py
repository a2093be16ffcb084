"""``python -m arrayconv``: a table of commands. Each is a module here, read only once it is asked for.

A command's module has ``add(parser)``, which adds its arguments, and ``run(args)``, which returns the exit code and
raises `UsageError` for what argparse can't see.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

#: name, which is that of the module too: what it does.
COMMANDS = {
    "notebook": "repeat a notebook on convolution with every library that is installed, and compare the numbers",
    "plan": "print what a call would do: output shape, work, memory, and the choice of an algorithm",
    "filter": "filter an image by a kernel: grey, colours, alpha, 8 or 16 bits",
    "learn": "learn the kernel that makes one image out of another",
    "digits": "compress images of digits into labels: a network that JAX trains and every library runs",
}

PROGRAM = "python -m arrayconv"


class UsageError(Exception):
    """One line for standard error; the exit code is 2."""


class Parser(ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser(chosen: str) -> ArgumentParser:
    """Every command by name, and the arguments of the chosen one."""
    parser = Parser(prog=PROGRAM, description="Convolution with one meaning on every array library.")
    parser.epilog = "Without a command: notebook, with its options."
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = import_module(f"arrayconv.cli.{name}")
            module.add(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, ``sys.argv`` by default, and return the exit code: 2 for a bad argument."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "notebook")
    try:
        args = _parser(words[0]).parse_args(words)
        code: int = args.run(args)
    except UsageError as error:
        print(f"{PROGRAM} {words[0]}:", *str(error).split(), file=sys.stderr)
        return 2
    return code
