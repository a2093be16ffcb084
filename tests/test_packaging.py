"""The house rules that no type checker sees: import directions, who imports what, file lengths, docstrings."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import arrayconv

PACKAGE = Path(arrayconv.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: Top-level modules and packages, in order: each imports only itself and rows above it.
#: "arrayconv" is the face, `arrayconv/__init__.py`.
ROOMS = (
    "version",
    "arguments",
    "boundary",
    "frames",
    "geometry",
    "chunks",
    "lattice",
    "shapes",
    "layout",
    "program",
    "transposes",
    "primitives",
    "backend",
    "processor",
    "onednn",
    "ynnpack",
    "gather",
    "backends",
    "algorithms",
    "tuning",
    "planner",
    "operations",
    "kernels",
    "learn",
    "arrayconv",
    "testing",
    "cli",
    "__main__",
)

#: Rooms above this row see arrays through the namespace that they are handed: they import the standard library only.
FIRST_WITH_ARRAYS = ROOMS.index("backend")

#: Who may import what is not the standard library; None: any room from `FIRST_WITH_ARRAYS` on.
OWNERS = {
    "numpy": None,
    "array_api_compat": {"backend"},
    "torch": {
        "backends.torch",
        "backends.torch_col2im",
        "backends.torch_gradient",
        "backends.torch_native",
        "backends.torch_pad",
        "backends.torch_pages",
        "backends.torch_pool",
        "backends.torch_recorded",
        "backends.torch_samples",
        "backends.torch_values",
        "backends.torch_wgrad",
    },
    "jax": {
        "backends.jax",
        "backends.jax_mesh",
        "backends.jax_control",
        "backends.jax_native",
        "backends.jax_sums",
        "cli.digits",
    },  # which trains under its jit; extra "digits"
    "dask": {"backends.dask", "backends.dask_parts"},
    "hypothesis": {"testing"},  # strategies for other test suites, imported when one is asked for
    "PIL": {"cli"},  # reads and writes photographs; extra "cli"
    "matplotlib": {"cli"},  # draws `learn --plot`; extra "cli"
    "skimage": {"cli"},  # brings a photograph; without it the user names one
    "sklearn": {"cli.digits"},  # brings the digits; extra "digits"
    "tqdm": {"cli", "learn", "operations.tune"},  # `progress=True`, and `tune` where it is there; extra "cli"
}

#: Rooms that import a row below them by name, at the call that needs it, and why.
DEFERRED = {
    "backend": {"backends"},  # the table BACKENDS: a library's file is read once one of its arrays turns up
}


class Import(NamedTuple):
    target: str
    line: int
    by_name: bool


def module_name(path: Path) -> str:
    """``backends.torch`` for ``arrayconv/backends/torch.py``; the face is ``arrayconv``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) or "arrayconv"


def room(module: str) -> str:
    return module.partition(".")[0]


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file at any depth, relative ones resolved, and every ``import_module`` of a literal name."""
    package = ["arrayconv", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*origin, node.module] if node.module else origin)
            if source == "arrayconv":
                yield from (Import(face_member(alias.name), node.lineno, False) for alias in node.names)
            else:
                yield Import(source, node.lineno, False)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            words = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
            yield from (Import(word, node.lineno, True) for word in words if isinstance(word, str))


def face_member(name: str) -> str:
    """``from arrayconv import name``: a module, or a function that the face offers."""
    is_module = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return f"arrayconv.{name}" if is_module else "arrayconv"


def fault(module: str, found: Import) -> str | None:
    """Why ``module`` must not import this, or None."""
    library, _, rest = found.target.partition(".")
    if library == "arrayconv":
        source = room(rest) or "arrayconv"
        if source not in ROOMS:
            return f"imports {source}, which has no row in ROOMS"
        if found.by_name and source in DEFERRED.get(room(module), ()):
            return None
        points_up = ROOMS.index(source) <= ROOMS.index(room(module))
        return None if points_up else f"imports {source}, a row below it in ROOMS"
    if library in sys.stdlib_module_names:
        return None
    if library not in OWNERS:
        return f"imports {library}, which has no row in OWNERS"
    if ROOMS.index(room(module)) < FIRST_WITH_ARRAYS:
        return f"imports {library}, where only the standard library is allowed"
    owners = OWNERS[library]
    allowed = owners is None or module in owners or room(module) in owners
    return None if allowed else f"imports {library}, which belongs to {', '.join(sorted(owners or ()))}"


def test_every_module_has_a_room() -> None:
    present = {room(module_name(path)) for path in FILES}
    unknown, stale = sorted(present - set(ROOMS)), sorted(set(ROOMS) - present)
    assert not unknown, f"give {unknown} a row in ROOMS, below what it imports and above what imports it"
    assert not stale, f"ROOMS names {stale}, which arrayconv no longer has: delete the row"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_up(path: Path) -> None:
    module = module_name(path)
    assert room(module) in ROOMS, f"give {room(module)} a row in ROOMS"
    faults = [f"{path.name}:{found.line} {why}" for found in imports(path) if (why := fault(module, found))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "found", "why"),
    [
        ("geometry", "arrayconv.planner.Plan", "imports planner, a row below it in ROOMS"),
        ("geometry", "numpy", "imports numpy, where only the standard library is allowed"),
        ("algorithms.gemm", "dask.array", "imports dask, which belongs to backends.dask, backends.dask_parts"),
        ("backends.jax", "array_api_compat", "imports array_api_compat, which belongs to backend"),
        ("operations.conv", "arrayconv", "imports arrayconv, a row below it in ROOMS"),
        ("planner", "arrayconv.attic", "imports attic, which has no row in ROOMS"),
        ("planner", "requests", "imports requests, which has no row in OWNERS"),
        ("planner", "arrayconv.backend", None),
        ("backends.torch", "torch", None),
        ("cli.photo", "PIL.Image", None),
    ],
)
def test_what_counts_as_a_fault(module: str, found: str, why: str | None) -> None:
    assert fault(module, Import(found, 1, by_name=False)) == why


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{path.name} has {lines} lines: a room is missing"


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after ``statement``."""
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_loads_nothing_but_itself() -> None:
    """Array libraries stay away, and so do the slow modules: `numpy.testing`, `numpy.f2py`, `importlib.metadata`."""
    cheap = modules_after("import __future__, bisect, dataclasses, numpy")
    added = {name for name in modules_after("import arrayconv") - cheap if room(name) != "arrayconv"}
    assert not added


def test_deferred_names_are_those_that_checkers_read() -> None:
    """The face lists them twice, for type checkers and for the interpreter; `__all__` holds these and all others."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    read = {alias.name: f"arrayconv.{node.module}" for node in block.body for alias in node.names}
    assert read == arrayconv._MODULES
    offered = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(arrayconv.__all__) == {name for name in offered if name and not name.startswith("_")} | read.keys()
    assert len(arrayconv.__all__) == len(set(arrayconv.__all__))


def test_deferred_names_arrive_when_asked_for() -> None:
    modules = {*arrayconv._MODULES.values(), "arrayconv.operations.table"}
    assert not modules & modules_after("import arrayconv")
    assert not modules & modules_after("import arrayconv, copy; dir(arrayconv), copy.copy(arrayconv.conv)")
    every = "exec('from arrayconv import *'); import arrayconv; assert set(arrayconv.__all__) <= {*globals()}"
    assert modules <= modules_after(every)
    assert "arrayconv.learn" not in modules_after("from arrayconv import max_pool")
    assert set(arrayconv.__all__) <= set(dir(arrayconv))
    with pytest.raises(AttributeError, match="module 'arrayconv' has no attribute 'convolute'"):
        _ = arrayconv.convolute


PUBLIC = {name: value for name in arrayconv.__all__ if callable(value := getattr(arrayconv, name))}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_is_documented(name: str) -> None:
    value = PUBLIC[name]
    assert inspect.getdoc(value), f"{name} has no docstring"
    assert not inspect.isfunction(value) or ">>>" in (value.__doc__ or ""), f"{name} has no example"


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
