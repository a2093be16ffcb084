"""Pooling against PyTorch, JAX's reduce_window and loops, with the gradients of ties."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import dask
import dask.array
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads
from numpy.lib.stride_tricks import sliding_window_view
from torch.nn import functional

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.testing import geometries
from arrayconv.testing.strategies import Case

if TYPE_CHECKING:
    from conftest import Library

RANDOM = np.random.default_rng(5)
POOLS = (ac.max_pool, ac.avg_pool, ac.lp_pool)
Index = tuple[int, ...]

#: Calls that PyTorch can make, in the order of its arguments.
TORCH_CALLS = [
    dict(zip(("window", "stride", "padding", "dilation", "ceil"), call, strict=True))
    for call in (
        ((3, 2), (2, 3), (1, 1), (1, 1), False),
        ((3, 3), (2, 2), (1, 1), (2, 1), True),
        ((2, 2), (3, 3), (1, 1), (1, 1), True),
        ((3, 3), (1, 1), (0, 0), (1, 1), False),
        ((4,), (3,), (2,), (1,), True),
        ((2,), (2,), (0,), (3,), True),
        ((3, 2, 3), (2, 1, 2), (1, 0, 1), (1, 1, 1), True),
        ((2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 2, 1), False),
    )
]
TORCH_AVERAGES = [call for call in TORCH_CALLS if set(call["dilation"]) == {1}]


def tied(shape: Index) -> np.ndarray[Any, Any]:
    """Few values, so that almost every window has a tie."""
    return RANDOM.integers(-2, 3, shape).astype("float64")


def windows_of(sizes: Index, case: Case, ceil: bool) -> tuple[Index, dict[Index, tuple[list[Index], int]]]:
    """For each output the elements that its window holds, in row-major order, and its places in the padded input."""
    pairs = ac.resolve_padding(case.padding, sizes, case.window, stride=case.stride, dilation=case.dilation)
    ndim = len(sizes)
    strides, dilations = (tuple(np.broadcast_to(each, ndim)) for each in (case.stride, case.dilation))
    begin = [max(0, -low) for low, _ in pairs]
    end = [n + min(0, high) for n, (_, high) in zip(sizes, pairs, strict=True)]
    kept = [max(0, stop - start) for start, stop in zip(begin, end, strict=True)]
    added = tuple((max(0, low), max(0, high)) for low, high in pairs)
    out = ac.output_shape(kept, case.window, stride=case.stride, padding=added, dilation=case.dilation, ceil=ceil)
    found = {}
    for j in product(*map(range, out)):
        held, inside = [], 0
        for t in product(*map(range, case.window)):
            at = [a * s + b * d - low for a, s, b, d, (low, _) in zip(j, strides, t, dilations, pairs, strict=True)]
            if all(b <= i < e for b, i, e in zip(begin, at, end, strict=True)):
                held.append(tuple(int(i) for i in at))
            inside += all(i < e + high for i, e, (_, high) in zip(at, end, added, strict=True))
        found[j] = (held, inside)
    return out, found


@st.composite
def calls(draw: st.DrawFn) -> tuple[Case, bool, int]:
    case = draw(geometries(max_ndim=3, min_size=1, boundaries=("constant",)))
    return case, draw(st.booleans()), draw(st.integers(0, 2**32 - 1))


def pulled(library: Library, op: Any, x: np.ndarray[Any, Any], dy: Any, **options: Any) -> tuple[Any, Any]:
    """The result and the cotangent of x by `vjp`, as NumPy arrays."""
    y, pullback = ac.vjp(op, library.asarray(x), options.pop("window"), **options)
    (dx,) = pullback(library.asarray(np.broadcast_to(dy, y.shape).astype(dtype_name(y.dtype))))
    assert dtype_name(dx.dtype) == x.dtype.name
    assert type(dx) is type(y)
    return library.to_numpy(y), library.to_numpy(dx)


#: What a window of values v has for a result, n of its places being inside, and the derivative by each value.
RULES: tuple[tuple[Any, dict[str, Any], Any], ...] = (
    (ac.max_pool, {}, lambda v, n: (v.max(), np.arange(v.size) == v.argmax())),
    (ac.avg_pool, {"count_padding": True}, lambda v, n: (v.sum() / n, np.full(v.size, 1 / n))),
    (ac.avg_pool, {"count_padding": False}, lambda v, n: (v.mean(), np.full(v.size, 1 / v.size))),
    (ac.lp_pool, {"p": 2}, lambda v, n: (np.linalg.norm(v), v / (np.linalg.norm(v) or 1))),
)


def test_loops(library: Library) -> None:
    """Every geometry, in both layouts: values and gradients, with ties; a window of padding alone raises."""

    def check(drawn: tuple[Case, bool, int]) -> None:
        case, ceil, seed = drawn
        random = np.random.default_rng(seed)
        names = ("window", "stride", "padding", "dilation", "channels")
        options: dict[str, Any] = {"ceil": ceil, **{name: getattr(case, name) for name in names}}
        lead = (*case.batch, case.inputs)
        x = random.integers(-2, 3, (*lead, *case.sizes)).astype("float32")
        out, held = windows_of(case.sizes, case, ceil)
        own = np.moveaxis(x, len(case.batch), -1) if case.channels == "last" else x
        if not all(elements for elements, _ in held.values()):
            for op in POOLS:
                with pytest.raises(ValueError, match="nothing but padding"):
                    op(library.asarray(own), **options)
            return
        dy = random.integers(1, 9, (*lead, *out)).astype("float32")
        last = np.moveaxis(dy, len(case.batch), -1) if case.channels == "last" else dy
        for op, extra, rule in RULES:
            y, dx = pulled(library, op, own, last, **options, **extra)
            expected, slope = np.zeros((*lead, *out)), np.zeros(x.shape)
            for j, (elements, inside) in held.items():
                for c in np.ndindex(*lead):
                    values = np.array([x[(*c, *i)] for i in elements], dtype="float64")
                    expected[(*c, *j)], weights = rule(values, inside)
                    for i, weight in zip(elements, weights, strict=True):
                        slope[(*c, *i)] += weight * dy[(*c, *j)]
            if case.channels == "last":
                expected, slope = (np.moveaxis(each, len(case.batch), -1) for each in (expected, slope))
            exact = 0 if op is ac.max_pool else 1e-5
            np.testing.assert_allclose(y, expected, rtol=exact, atol=exact)
            np.testing.assert_allclose(dx, slope, rtol=exact, atol=exact)

    library.for_all(calls(), check)


def against_torch(native: Any, own: Any, x: np.ndarray[Any, Any], exact: bool) -> None:
    """Values and gradients: by vjp on NumPy, by autograd, under torch.compile, by JAX under jit."""
    tensor = torch.tensor(x, requires_grad=True)
    expected = native(tensor)
    dy = RANDOM.integers(1, 9, expected.shape).astype(x.dtype)
    (slope,) = torch.autograd.grad(expected, tensor, torch.tensor(dy), retain_graph=True)
    y, pullback = ac.vjp(own.func, x, **own.keywords)
    found = [(y, pullback(dy)[0])]
    torch.compiler.reset()
    for op in (own, torch.compile(own, fullgraph=True, backend="eager")):
        y = op(tensor)
        found.append((y.detach(), torch.autograd.grad(y, tensor, torch.tensor(dy))[0]))
    y, pull = jax.vjp(jax.jit(own), jnp.asarray(x))
    found.append((y, pull(jnp.asarray(dy))[0]))
    for y, dx in found:
        np.testing.assert_allclose(y, expected.detach(), rtol=0 if exact else 1e-12)
        np.testing.assert_allclose(dx, slope, rtol=0 if exact else 1e-12, atol=0 if exact else 1e-12)


@pytest.mark.parametrize("call", TORCH_CALLS)
def test_max_pool_is_torch_s_with_ties_and_nan(call: Any) -> None:
    ndim = len(call["window"])
    native = getattr(functional, f"max_pool{ndim}d")
    for share in (0, 0.1):
        x = tied((2, 3, 9, 8, 7)[: ndim + 2])
        x[RANDOM.random(x.shape) < share] = np.nan
        against_torch(lambda t: native(t, *call.values()), partial(ac.max_pool, **call), x, exact=True)


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("call", TORCH_AVERAGES)
def test_avg_pool_is_torch_s(call: Any, count_padding: bool) -> None:
    window, stride, padding, _, ceil = call.values()
    native = getattr(functional, f"avg_pool{len(window)}d")
    own = partial(ac.avg_pool, **call, count_padding=count_padding)
    x = RANDOM.standard_normal((2, 3, 9, 8, 7)[: len(window) + 2])
    against_torch(lambda t: native(t, window, stride, padding, ceil, count_padding), own, x, exact=False)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_lp_pool_is_torch_s_on_positive_numbers(p: float) -> None:
    own = partial(ac.lp_pool, window=(3, 2), stride=(2, 1), p=p)
    against_torch(lambda t: functional.lp_pool2d(t, p, (3, 2), (2, 1)), own, RANDOM.random((2, 3, 7, 6)) + 0.1, False)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", ["same", "valid", ((2, 1), (0, 1))])
def test_reduce_window(padding: Any, dilation: Any) -> None:
    window, stride = (3, 2), (2, 1)
    x = jnp.asarray(tied((2, 3, 9, 8)))
    widths = ac.resolve_padding(padding, (9, 8), window, stride=stride, dilation=dilation)

    def reduce(op: Any, init: float, x: Any) -> Any:
        return lax.reduce_window(
            x, init, op, (1, 1, *window), (1, 1, *stride), ((0, 0), (0, 0), *widths), window_dilation=(1, 1, *dilation)
        )

    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    np.testing.assert_array_equal(ac.max_pool(x, window, **options), reduce(lax.max, -jnp.inf, x))
    np.testing.assert_allclose(ac.avg_pool(x, window, **options) * 6, reduce(lax.add, 0.0, x), atol=1e-12)
    sums = reduce(lax.add, 0.0, abs(x) ** 3)
    np.testing.assert_allclose(ac.lp_pool(x, window, p=3, **options), sums ** (1 / 3), rtol=1e-12)


def test_every_dtype(library: Library) -> None:
    """max keeps it, means of integers are the default float, half types are summed in float32 and rounded once."""
    default = dtype_name(library.xp.zeros(()).dtype)
    for dtype in library.dtypes:
        if "int" in dtype:
            info = np.iinfo(dtype)
            x = RANDOM.integers(info.min, info.max, (2, 6, 7), dtype=dtype, endpoint=True)
        else:
            x = RANDOM.integers(-99, 99, (2, 6, 7)).astype("float32") / 8
        array = library.asarray(x, dtype)
        options: dict[str, Any] = {"stride": 1, "padding": "same"}
        if "complex" not in dtype:
            y = ac.max_pool(array, (2, 3), **options)
            assert dtype_name(y.dtype) == dtype
            np.testing.assert_array_equal(library.to_numpy(y), ac.max_pool(library.to_numpy(array), (2, 3), **options))
        for op in (ac.avg_pool, ac.lp_pool):
            array = library.asarray(x % 100, dtype)  # powers of the largest overflow in float32
            y = op(array, (2, 3), **options)
            real = {"complex64": "float32", "complex128": "float64"} if op is ac.lp_pool else {}
            assert dtype_name(y.dtype) == (default if "int" in dtype else real.get(dtype, dtype))
            wide = "float32" if dtype in library.halves else "complex128" if "complex" in dtype else "float64"
            expected = op(library.to_numpy(array).astype(wide), (2, 3), **options)
            if dtype in library.halves:
                expected = library.to_numpy(library.asarray(expected, dtype))
            tolerance = 0.01 if dtype in library.halves else 1e-6
            np.testing.assert_allclose(library.to_numpy(y), expected, tolerance, 1e-6 * abs(x).max())
            if op is ac.avg_pool and dtype in library.halves:  # a sum of these is exact, so the rounding is one
                np.testing.assert_array_equal(library.to_numpy(y), expected)


def test_integer_gradients(library: Library) -> None:
    """Exact for maxima, also of the smallest values beside padding; truncated for means."""
    for dtype in ("uint8", "int32", "uint64"):
        x = np.zeros((1, 4), dtype=dtype)
        _, dx = pulled(library, ac.max_pool, x, np.array([[1, 2, 3]]), window=(3,), stride=2, padding=(2,))
        np.testing.assert_array_equal(dx, [[3, 0, 3, 0]])
        _, dx = pulled(library, ac.avg_pool, x, 9, window=(2,))
        np.testing.assert_array_equal(dx, [[4, 4, 4, 4]])


def test_ties_with_padding_reach_an_element(library: Library) -> None:
    """Minus infinity ties with the padding of a textbook; the first element of each window is the winner."""
    x = np.full((1, 3, 3), -np.inf)
    y, dx = pulled(library, ac.max_pool, x, 1.0, window=(3, 3), stride=2, padding=1)
    np.testing.assert_array_equal(y, np.full((1, 2, 2), -np.inf))
    np.testing.assert_array_equal(dx, [[[1, 1, 0], [1, 1, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(jax.grad(lambda x: ac.max_pool(x, (3, 3), stride=2, padding=1).sum())(x), dx)


def test_lp_gradients_at_zero(library: Library) -> None:
    """The subgradient 0, never NaN, by vjp, autograd and jax.grad; so is the second derivative."""
    x = np.array([[0.0, 0.0, 3.0, 0.0, -4.0, 1.0]])
    for p in (0.5, 1, 1.5, 2, 3):
        tensor = torch.tensor(x, requires_grad=True)
        ac.lp_pool(tensor, (2,), p=p).sum().backward()
        _, dx = pulled(library, ac.lp_pool, x, 1.0, window=(2,), p=p)
        slope = jax.grad(lambda x, p=p: ac.lp_pool(x, (2,), p=p).sum())
        np.testing.assert_allclose(dx, tensor.grad, rtol=1e-12)
        np.testing.assert_allclose(slope(x), dx, rtol=1e-12)
        np.testing.assert_allclose(dx[0, :4], [0, 0, 1, 0], rtol=1e-12)
        assert np.isfinite(jax.jacobian(slope)(x)).all()


def test_complex_norms_follow_jax() -> None:
    x = RANDOM.standard_normal((2, 6)) + 1j * RANDOM.standard_normal((2, 6))
    dy = RANDOM.standard_normal((2, 3))
    for p in (1, 2, 3):
        _, pull = jax.vjp(lambda x, p=p: ac.lp_pool(x, (2,), p=p), jnp.asarray(x))
        np.testing.assert_allclose(ac.vjp(ac.lp_pool, x, (2,), p=p)[1](dy)[0], pull(jnp.asarray(dy))[0], rtol=1e-12)


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize("channels", ["first", "last"])
def test_derivatives_of_both_orders(op: Any, channels: str) -> None:
    x = RANDOM.permutation(np.arange(1.0, 21.0)).reshape(1, 5, 4, 1) / 7
    pool = partial(op, window=(3, 2), stride=(2, 1), padding=((1, 0), 0), ceil=True, channels=channels)
    x = x if channels == "last" else np.moveaxis(x, -1, 1)
    check_grads(pool, (jnp.asarray(x),), order=2)
    tensor = torch.tensor(x, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (tensor,))
    assert torch.autograd.gradgradcheck(pool, (tensor,))


@pytest.mark.parametrize("op", POOLS)
def test_transformations(op: Any) -> None:
    """jit, vmap and torch.func.vmap of the call and of its gradient, and compiled graphs of many sizes."""
    pool = partial(op, window=(2, 2), padding="same", stride=1)
    x = tied((4, 2, 5, 6))
    y, pullback = ac.vjp(op, x, (2, 2), padding="same", stride=1)
    (dx,) = pullback(np.ones(y.shape))
    np.testing.assert_allclose(jax.jit(jax.vmap(pool))(x), y, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(lambda x: pool(x).sum()))(x), dx, atol=1e-12)
    pull = jax.jit(lambda x: ac.vjp(op, x, (2, 2), padding="same", stride=1)[1](jnp.ones(y.shape)))
    np.testing.assert_allclose(pull(x)[0], dx, atol=1e-12)
    tensor = torch.tensor(x)
    np.testing.assert_allclose(torch.func.vmap(pool)(tensor), y, rtol=1e-12)
    np.testing.assert_allclose(torch.func.vmap(torch.func.grad(lambda x: pool(x).sum()))(tensor), dx, atol=1e-12)
    torch.compiler.reset()
    compiled = torch.compile(pool, fullgraph=True, backend="eager")
    for cut in (x, x[..., :4], x[..., :3, :]):
        np.testing.assert_allclose(compiled(torch.tensor(cut)), pool(cut), rtol=1e-12)


@pytest.mark.parametrize("op", POOLS)
def test_dask_stays_lazy_and_in_pieces(op: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    x = RANDOM.standard_normal((2, 12, 14))
    chunked = dask.array.from_array(x, chunks=(1, 5, 8))
    with dask.config.set(scheduler=refuse):
        y, pullback = ac.vjp(op, chunked, (3, 2), stride=(2, 1), padding="same")
        (dx,) = pullback(dask.array.ones(y.shape, chunks=4))
    assert min(len(chunks) for lazy in (y, dx) for chunks in lazy.chunks[1:]) > 1
    expected, pullback = ac.vjp(op, x, (3, 2), stride=(2, 1), padding="same")
    np.testing.assert_allclose(y.compute(), expected, rtol=1e-12)
    np.testing.assert_allclose(dx.compute(), pullback(np.ones(expected.shape))[0], rtol=1e-12)


def test_four_axes_no_batch_and_empty_batches(library: Library) -> None:
    x = tied((3, 4, 3, 5, 4))
    y = ac.max_pool(library.asarray(x), (2, 3, 2, 2))
    blocks = x[:, :, :, :4].reshape(3, 2, 2, 1, 3, 2, 2, 2, 2)
    np.testing.assert_array_equal(library.to_numpy(y), blocks.max((2, 4, 6, 8)))
    for op in POOLS:
        y, dx = pulled(library, op, np.zeros((0, 2, 4)), 1.0, window=(2,), padding=1)
        assert y.shape == (0, 2, 3) and dx.shape == (0, 2, 4)


@pytest.mark.parametrize(("window", "stride", "dilation"), [(33, 1, 1), (40, 3, 1), (47, 2, 2), (100, 100, 1)])
def test_long_windows(window: int, stride: int, dilation: int) -> None:
    """Put together from shorter ones; the two ways of differentiating agree on ties."""
    x = tied((2, 101))
    held = sliding_window_view(x, (window - 1) * dilation + 1, axis=1)[:, ::stride, ::dilation]
    for op, expected in ((ac.max_pool, held.max(-1)), (ac.avg_pool, held.mean(-1))):
        pool = partial(op, window=(window,), stride=stride, dilation=dilation)
        y, pullback = ac.vjp(op, x, (window,), stride=stride, dilation=dilation)
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        slope = jax.grad(lambda x, pool=pool: pool(x).sum())(x)
        np.testing.assert_allclose(pullback(np.ones(y.shape))[0], slope, rtol=1e-12, atol=1e-12)


def test_global_pooling(library: Library) -> None:
    x = tied((2, 5, 6))
    y, dx = pulled(library, ac.avg_pool, x, 30.0, window=(5, 6))
    np.testing.assert_allclose(y[:, 0, 0], x.mean((1, 2)), atol=1e-12)
    np.testing.assert_allclose(dx, np.ones(x.shape), rtol=1e-12)
    np.testing.assert_array_equal(ac.max_pool(x, (5, 6))[:, 0, 0], x.max((1, 2)))


@pytest.mark.parametrize("op", POOLS)
def test_the_result_is_a_new_array(op: Any) -> None:
    for x in (np.ones((2, 4)), torch.ones((2, 4))):
        y = op(x, (1,))
        y[0, 0] = 7
        assert x[0, 0] == 1


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"window": 2}, TypeError, r"window must be a tuple of ints, got 2; write for example \(2,\)"),
        ({"window": ()}, ValueError, r"window=\(\) must have one entry for each spatial axis"),
        ({"window": (2, 2, 2)}, ValueError, r"got x of shape \(2, 5, 6\); x\[None\] adds a channel axis"),
        ({"window": (2, 0)}, ValueError, r"window\[1\] must be >= 1, got 0"),
        ({"window": (2, 2.5)}, TypeError, r"window\[1\] must be an int, got 2.5"),
        ({"stride": (1, 1, 1)}, ValueError, "stride has 3 entries, expected one for each of 2 spatial axes"),
        ({"dilation": True}, TypeError, "dilation must be an int, got True"),
        ({"padding": "some"}, ValueError, "padding='some' is not one of 'valid'"),
        ({"ceil": 1}, TypeError, "ceil must be True or False, got 1"),
        ({"channels": ["first"]}, TypeError, r"channels must be one of 'first', 'last', got \['first'\]"),
        ({"channels": "middle"}, ValueError, "channels='middle' is not one of 'first', 'last'"),
        ({"dilation": 5}, ValueError, r"window\[0\]=2 is longer than the padded input.* covers 6 elements of 5"),
        ({"padding": ((2, 0), 0)}, ValueError, r"along spatial axis 0 would hold nothing but padding .*; pad less"),
        ({"padding": ((0, 4), 0), "ceil": True}, ValueError, "spatial axis 0 would hold nothing but padding"),
    ],
)
def test_errors(op: Any, change: dict[str, Any], error: type[Exception], message: str) -> None:
    options: dict[str, Any] = {"window": (2, 2)} | change
    with pytest.raises(error, match=f"^{op.__name__}: .*{message}"):
        op(np.ones((2, 5, 6)), **options)


def test_errors_of_one_operation() -> None:
    with pytest.raises(TypeError, match="max_pool: x has dtype complex64, and complex numbers have no order; pool its"):
        ac.max_pool(np.ones((1, 4), "complex64"), (2,))
    with pytest.raises(TypeError, match="avg_pool: x has dtype bool"):
        ac.avg_pool(np.ones((1, 4), bool), (2,))
    with pytest.raises(TypeError, match="avg_pool: count_padding must be True or False, got 1"):
        ac.avg_pool(np.ones((1, 4)), (2,), count_padding=1)  # type: ignore[arg-type]
    for p in (True, "2", None):
        with pytest.raises(TypeError, match="lp_pool: p must be a number"):
            ac.lp_pool(np.ones((1, 4)), (2,), p=p)
    for p in (0, -1, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"lp_pool: p={p} must be positive and finite; the limit"):
            ac.lp_pool(np.ones((1, 4)), (2,), p=p)
