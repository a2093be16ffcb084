"""The six kinds of arrays that every operation is tested on, and the settings of a test process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import array_api_strict
import dask
import dask.array
import jax
import jax.numpy
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from arrayconv.algorithms import fft_blocks, fft_tiles
from arrayconv.backend import dtype_name, library_backend
from arrayconv.planner import current_settings, make_program, replan
from arrayconv.testing import assert_within_bound

Array = Any

#: Run by `test_mesh.py` in a process of its own, with more devices than there are here.
collect_ignore = ["mesh_script.py"]

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "complex64", "complex128")

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)
dask.config.set(scheduler="synchronous")

# Calls of JAX compile and the oracle is slow, so time says nothing; the seed is fixed where results must repeat.
settings.register_profile("tests", deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
settings.register_profile("ci", settings.get_profile("tests"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("tests"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "tests"))


def _read_only(array: np.ndarray[Any, Any]) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


def _torch(array: np.ndarray[Any, Any]) -> Array:
    return torch.tensor(np.array(array, order="C"))


def _dask(array: np.ndarray[Any, Any]) -> Array:
    """Two uneven chunks along every axis that has three elements."""
    chunks = tuple((n // 3, n - n // 3) if n >= 3 else (n,) for n in array.shape)
    return dask.array.from_array(array, chunks=chunks)


@dataclass(frozen=True)
class Library:
    """A kind of arrays: the library's name, the way from NumPy, its dtypes, and how many random calls it is given."""

    kind: str
    name: str
    make: Callable[[np.ndarray[Any, Any]], Array]
    halves: tuple[str, ...] = ("float16",)
    share: float = 1.0

    @property
    def xp(self) -> Any:
        return library_backend(self.name).xp

    @property
    def dtypes(self) -> tuple[str, ...]:
        return (*INTEGERS, *self.halves, *FLOATS)

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """This library's array, in ``dtype`` or, where None, in the dtype it has."""
        array = np.asarray(array)
        if dtype == "bfloat16":
            return self.xp.astype(self.make(array), self.xp.bfloat16)
        return self.make(array if dtype is None else array.astype(dtype, copy=False))

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(library_backend(self.name).to_numpy(array))

    def check(self, op: Callable[..., Array], *arrays: Any, cast: str | None = None, **options: Any) -> bool:
        """Run ``op`` on NumPy arrays made this library's, in dtype ``cast``, and hold it to all that is promised.

        The values are within the bound of the accuracy in force, the dtype is the library's own promotion or
        ``dtype=``, the result is this library's, and the inputs are as they were. False where the algorithm says that
        it can't serve the call.
        """
        own = [None if array is None else self.asarray(array, cast) for array in arrays]
        before = [None if array is None else self.to_numpy(array).copy() for array in own]
        with np.errstate(invalid="ignore"):  # NumPy itself warns of 0 * inf
            try:
                y = op(*own, **options)
            except ValueError as error:
                if options.get("algorithm", "auto") == "auto" or "can't serve this call" not in str(error):
                    raise
                return False
            assert_within_bound(y, *own, op=op, accuracy=current_settings().accuracy, **options)
        assert type(y) is type(own[0])
        assert dtype_name(y.dtype) == (options.get("dtype") or dtype_name(self.xp.result_type(*own[:2])))
        for old, array in zip(before, own, strict=True):
            if old is not None:
                np.testing.assert_array_equal(self.to_numpy(array), old)
        return True

    def for_all(self, strategy: SearchStrategy[Any], check: Callable[[Any], Any]) -> None:
        """``check`` on random examples, fewer of them where each costs a compilation."""

        @settings(max_examples=max(3, round(settings.default.max_examples * self.share)))
        @given(strategy)
        def test(drawn: Any) -> None:
            check(drawn)

        test()


LIBRARIES = {
    library.kind: library
    for library in (
        Library("numpy", "numpy", np.asarray),
        Library("numpy-readonly", "numpy", _read_only),
        Library("torch", "torch", _torch, halves=("float16", "bfloat16")),
        Library("jax", "jax", jax.numpy.asarray, halves=("float16", "bfloat16"), share=0.2),
        Library("dask", "dask", _dask, share=0.5),
        Library("array_api_strict", "array_api_strict", array_api_strict.asarray, halves=()),
    )
}


@pytest.fixture
def small_transforms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles of a few hundred points, lines of 128: images of a test are cut."""
    own = {"CACHED": 100, "SHARED": 100, "CACHED_LINE": 100, "SHARED_LINE": 100, "CALL": 100, "MEET": 0}
    for name, size in (own | {"SWEPT": 256, "SWEPT_LINE": 32}).items():
        monkeypatch.setattr(fft_blocks, name, size)
    monkeypatch.setattr(fft_tiles, "LINE", 128)
    known = fft_blocks.block, fft_blocks.cuts_of, make_program, replan
    for cached in known:
        cached.cache_clear()
    yield
    for cached in known:
        cached.cache_clear()


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    """One kind of arrays after the other."""
    return LIBRARIES[request.param]
