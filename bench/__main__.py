"""``python -m bench [run]``, ``report``, ``regret``, ``again``, ``fit``, ``import``, ``scale``, ``large-fit``.

Each has --help.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from importlib import import_module

#: Variables that make NumPy's BLAS slower than it comes, so that nothing is learnt about the library.
HARMFUL = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

#: A command's module, with ``add_arguments(parser)`` and ``run(args) -> exit code``; the first is the default.
COMMANDS = {
    "run": "bench.run",
    "report": "bench.report",
    "regret": "bench.regret",
    "again": "bench.again",
    "fit": "bench.fit",
    "import": "bench.imports",
    "scale": "bench.scale",
    "large-fit": "bench.large_fit",
}


def restart_clean() -> None:
    """The same command in an environment without `HARMFUL`, which is read when NumPy is loaded."""
    found = [name for name in HARMFUL if name in os.environ]
    if not found:
        return
    print(
        f"bench: started again without {' and '.join(found)}, which would slow NumPy down", file=sys.stderr, flush=True
    )
    rest = {name: value for name, value in os.environ.items() if name not in HARMFUL}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], rest)


def main() -> int:
    restart_clean()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler, which counts memory, is silent then
    words = sys.argv[1:]
    name = words.pop(0) if words and words[0] in COMMANDS else next(iter(COMMANDS))
    module = import_module(COMMANDS[name])
    parser = ArgumentParser(prog=f"python -m bench {name}", description=module.__doc__, epilog=__doc__)
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(words))
    return code


if __name__ == "__main__":
    sys.exit(main())
