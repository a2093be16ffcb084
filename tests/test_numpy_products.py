"""Products in pieces that OpenBLAS does not pack: exact in every layout, and only where they are the faster way."""

from __future__ import annotations

from ctypes import c_char_p
from typing import Any

import numpy as np
import pytest

from arrayconv.backends import blas, numpy_products
from arrayconv.backends.numpy_products import ALONE, THIN, UNPACKED, UNPACKING, matmul, piece

RNG = np.random.default_rng(8)
Array = np.ndarray[Any, Any]


@pytest.fixture(params=[UNPACKING[0], "Haswell"])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kind of processor whose products are unpacked, and one whose are not."""
    name = str(request.param)
    monkeypatch.setattr(numpy_products, "CORE", name)
    return name


def by_columns(matrix: Array) -> Array:
    """The same matrix, whose columns lie whole."""
    return np.ascontiguousarray(matrix.swapaxes(-1, -2)).swapaxes(-1, -2)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "complex64"])
@pytest.mark.parametrize("rows", [1, 2, 5, 8, 16, THIN, THIN + 1])
def test_thin_products_in_pieces(rows: int, dtype: str) -> None:
    """Of either side and layout, of stacks that are broadcast, and into a buffer that is a part of another."""
    a = RNG.integers(-4, 5, (2, 1, rows, 40)).astype(dtype)
    b = RNG.integers(-4, 5, (3, 40, UNPACKED // (40 * rows) + 17)).astype(dtype)
    expected = np.einsum("abij,cjk->acik", a.real.astype("int64"), b.real.astype("int64"))
    for left in (a, by_columns(a)):
        for right in (b, by_columns(b)):
            np.testing.assert_array_equal(matmul(left, right), expected)
            found = matmul(right.swapaxes(1, 2), left.swapaxes(2, 3))
            np.testing.assert_array_equal(found, expected.swapaxes(2, 3))
    whole = np.zeros((*expected.shape[:-1], expected.shape[-1] + 9), dtype)
    assert matmul(a, b, out=whole[..., 4:-5]).dtype == dtype
    np.testing.assert_array_equal(whole, np.pad(expected, [(0, 0)] * 3 + [(4, 5)]))


def pieces(a: Array, b: Array) -> int:
    return piece(a, b, a.shape[-2], a.shape[-1], b.shape[-1])


def test_which_products_are_cut(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thin ones of real numbers that OpenBLAS would pack, in pieces that it does not."""
    a, b = np.ones((16, 100), "float32"), np.ones((100, 1000), "float32")
    step = pieces(a, b)
    assert (0 < 16 * 100 * step <= UNPACKED and step % 16 == 0) if core in UNPACKING else step == 0
    assert pieces(b.T, a.T) == step and pieces(by_columns(a), by_columns(b)) == step
    assert pieces(a, by_columns(b)) == 0, "OpenBLAS packs these anyhow"
    assert pieces(a.astype("complex64"), b.astype("complex64")) == pieces(a.astype("int32"), b) == 0
    assert pieces(a, b[:, :600]) == 0, "it is small enough as it is"
    assert pieces(np.ones((THIN + 1, 100), "float32"), b) == pieces(a[:1], np.ones((100, 20000), "float32")) == 0
    deep = np.ones((16, 2000), "float32"), np.ones((2000, 100), "float32")
    assert pieces(*deep) == 0, "few columns of many rows"
    assert (
        (pieces(by_columns(deep[0]), by_columns(deep[1])) == 16) == (pieces(deep[1].T, deep[0].T) == 16) == bool(step)
    )
    long = np.ones((100, ALONE // (16 * 16 * 1600) + 1), "float32")
    monkeypatch.setattr(numpy_products, "threads", lambda: 2)
    assert pieces(a, long) == 0, "all threads together are faster"
    monkeypatch.setattr(numpy_products, "threads", lambda: 1)
    assert pieces(a, long) == step


def test_the_kind_of_processor_is_that_of_openblas(monkeypatch: pytest.MonkeyPatch) -> None:
    core = blas.find_core()
    assert bool(core) == (blas.CROWD is not None) and (not core or core in str(show_blas()))
    monkeypatch.setattr(blas, "NAMES", ("no_such_{}_function",))
    assert blas.find_core() == "" and blas.find_crowd() is None


def show_blas() -> Any:
    """OpenBLAS's own description of its build, which names the kind of processor too."""
    (config,) = blas.find_functions("get_config")
    config.restype = c_char_p
    return config().decode()
