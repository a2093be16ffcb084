"""`vjp` of every operation on every library: exact in integers, and as autograd and JAX differentiate in floats."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import pytest
import torch

import arrayconv as ac
from arrayconv.backend import dtype_name
from arrayconv.operations.table import OPERATIONS
from arrayconv.testing import problems

if TYPE_CHECKING:
    from conftest import Library

NumPyArray = np.ndarray[Any, Any]


class Example(NamedTuple):
    """Shapes of an operation's arrays in order, a bias the last where there is one, and its options."""

    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]
    with_bias: bool = False


#: The operations that are one planned geometry.
LINEAR = [name for name, row in OPERATIONS.items() if row.read is not None]

#: Calls of each linear operation, and of those that are made of them. A new one needs a row here.
EXAMPLES: dict[str, list[Example]] = {
    "pad": [
        Example(((4, 3),), {"widths": [(7, -1), (0, 5)], "boundary": boundary})
        for boundary in ("constant", "edge", "reflect", "symmetric", "wrap")
    ],
    "windows": [Example(((2, 7, 5),), {"window": (3, 2), "stride": (2, 1), "dilation": (1, 3)})],
    "corr2d": [Example(((5, 6), (2, 3)), {})],
    "correlate": [
        Example(((2, 7, 6), (3, 2)), {"stride": (2, 1), "dilation": (1, 2), "padding": ((2, 1), (-1, 3))}),
        Example(((5, 3, 6), (4, 2)), {"axes": (2, 0), "padding": "same", "boundary": "reflect"}),
        Example(((3, 4, 3), (2, 1, 2)), {"padding": "full"}),
    ],
    "convolve": [
        Example(((2, 9), (4,)), {"stride": 3, "padding": "causal", "dilation": 2, "boundary": "edge"}),
        Example(((4, 5), (2, 3)), {"padding": ((5, -2), (0, 4)), "boundary": "symmetric"}),
    ],
    "conv": [
        Example(
            ((2, 4, 7), (6, 2, 3), (6,)),
            {"stride": 2, "padding": ((2, 1),), "dilation": 2, "groups": 2},
            with_bias=True,
        ),
        Example(((2, 2, 5, 6, 4), (3, 2, 4, 3)), {"channels": "last", "padding": (-1, 2), "stride": (1, 2)}),
        Example(((3, 6, 5), (4, 3, 2, 3), (4,)), {"padding": "same", "boundary": "wrap"}, with_bias=True),
    ],
    "conv_transpose": [
        Example(
            ((2, 4, 5), (4, 3, 3), (6,)),
            {"stride": 3, "padding": ((1, 2),), "dilation": 2, "groups": 2, "output_padding": 1},
            with_bias=True,
        ),
        Example(((3, 2, 4), (2, 3, 5, 4)), {"channels": "last", "stride": (2, 1), "padding": "same"}),
    ],
    "depthwise_conv": [
        Example(((2, 3, 6, 5), (3, 2, 3, 2), (6,)), {"stride": (2, 1), "padding": "same"}, with_bias=True),
        Example(((8, 3), (2, 3, 1)), {"channels": "last", "padding": 3, "boundary": "reflect"}),
    ],
    "subpixel_conv": [
        Example(((2, 3, 5), (4, 3, 3), (4,)), {"factor": 2, "padding": "same"}, with_bias=True),
        Example(((4, 5, 2), (2, 3, 2, 6)), {"channels": "last", "factor": (2, 3), "padding": 1, "boundary": "edge"}),
    ],
    "separable_conv": [
        Example(((2, 3, 6), (3, 2, 3), (4, 6), (4,)), {"stride": 2, "padding": "same"}, with_bias=True),
        Example(((4, 5, 3), (2, 3, 3, 1), (2, 3)), {"channels": "last", "dilation": (1, 2)}),
    ],
}

CALLS = [pytest.param(name, example, id=f"{name}-{i}") for name in EXAMPLES for i, example in enumerate(EXAMPLES[name])]


def sample(shape: tuple[int, ...], dtype: str = "int64", seed: int = 0) -> NumPyArray:
    """Numbers that follow from shape and seed alone: small integers, or floats with all their digits."""
    random = np.random.default_rng([seed, *shape])
    if "int" in dtype:
        return random.integers(0 if "u" in dtype else -5, 6, shape).astype(dtype)
    values = random.standard_normal(shape)
    return (values + 1j * random.standard_normal(shape) if "complex" in dtype else values).astype(dtype)


def samples(example: Example, dtype: str = "int64", seed: int = 0) -> list[NumPyArray]:
    return [sample(shape, dtype, seed + i) for i, shape in enumerate(example.shapes)]


def linear_part(
    op: Any, arrays: list[NumPyArray], at: int, change: NumPyArray, options: dict[str, Any], with_bias: bool
) -> NumPyArray:
    """The change of ``op(*arrays)`` when ``change`` is added to the array ``at``: every operation is linear in each."""
    changed = [*arrays[:at], change, *arrays[at + 1 :]]
    if with_bias:
        constant = 0 if at == len(arrays) - 1 else -1
        changed[constant] = np.zeros_like(changed[constant])
    return np.asarray(op(*changed, **options))


def check_identities(
    library: Library, name: str, arrays: list[NumPyArray], options: dict[str, Any], with_bias: bool
) -> None:
    """``<dy, y'> == <da, a'>`` for each array ``a``, by the forward pass on NumPy arrays.

    Integers are exact modulo 2**64; floats hold small integers, so that only a transform rounds at all.
    """
    op = OPERATIONS[name].function
    own = [library.asarray(array) for array in arrays]
    y, pullback = ac.vjp(op, *own, **options)
    plain = {option: value for option, value in options.items() if option != "algorithm"}
    dtype = arrays[0].dtype
    compare = partial(np.testing.assert_allclose, rtol=0, atol=1e-9) if dtype.kind == "f" else np.testing.assert_equal
    compare(library.to_numpy(y), op(*arrays, **plain))
    dy = sample(tuple(y.shape), seed=9).astype(dtype)
    cotangents = pullback(library.asarray(dy))
    assert len(cotangents) == len(arrays)
    for i, (cotangent, array) in enumerate(zip(cotangents, own, strict=True)):
        assert type(cotangent) is type(array) and cotangent.dtype == array.dtype
        assert tuple(cotangent.shape) == arrays[i].shape
        change = sample(arrays[i].shape, seed=10 + i).astype(dtype)
        expected = linear_part(op, arrays, i, change, plain, with_bias)
        got = np.sum(library.to_numpy(cotangent) * change)
        compare(got, np.sum(expected * dy), err_msg=f"{name}, array {i}")


def first_example(name: str) -> Example:
    assert name in EXAMPLES, f"{name} is a linear operation without a test: give it a row in EXAMPLES of {__name__}"
    return EXAMPLES[name][0]


def test_every_linear_operation_has_examples() -> None:
    for name in LINEAR:
        first_example(name)


# Integers, exactly


@pytest.mark.parametrize(("name", "example"), CALLS)
def test_identities(library: Library, name: str, example: Example) -> None:
    check_identities(library, name, samples(example), example.options, example.with_bias)


@pytest.mark.parametrize("name", ["correlate", "convolve", "conv", "conv_transpose", "depthwise_conv"])
def test_identities_of_random_calls(library: Library, name: str) -> None:
    def check(call: Any) -> None:
        arrays = [array for array in (call.x, call.kernel, call.bias) if array is not None]
        check_identities(library, name, arrays, call.options, call.bias is not None)

    library.for_all(problems(name, dtype="int64", max_ndim=4 if library.share == 1 else 2), check)


#: Of some libraries; under another accuracy (`test_winograd.py`); of arrays that show their values; of many
#: channels, in JAX (`test_ynnpack.py`); of gradients (`test_wgrad.py`); of fewer channels out than in
#: (`test_kn2row.py`); in NumPy (`test_diagonals.py`).
NEEDS_MORE = ("native", "reduce", "winograd", "floats", "rounded", "separable", "stretch", "abreast", "wgrad", "kn2row")
NEEDS_MORE += ("diagonals",)


@pytest.mark.parametrize("algorithm", ac.algorithms())
def test_identities_by_every_algorithm(library: Library, algorithm: str) -> None:
    served = 0
    for name in ("correlate", "conv", "conv_transpose"):
        example = first_example(name)
        options = example.options | {"algorithm": algorithm}
        for dtype in ("int64", "float64"):
            arrays = [array.astype(dtype) for array in samples(example)]
            try:
                check_identities(library, name, arrays, options, example.with_bias)
            except ValueError as error:
                assert f"algorithm={algorithm!r} can't serve this call: " in str(error)
            else:
                served += 1
    assert served or algorithm in NEEDS_MORE


def test_identities_in_a_small_workspace(library: Library) -> None:
    with ac.settings(workspace=2**9):
        for name in ("correlate", "conv", "conv_transpose"):
            example = first_example(name)
            check_identities(library, name, samples(example), example.options, example.with_bias)


# Floats and complex numbers, as others differentiate


def torch_vjp(op: Any, arrays: list[NumPyArray], dy: NumPyArray, options: dict[str, Any]) -> list[NumPyArray]:
    """torch's autograd in JAX's convention: torch's gradient is the conjugate of that of a conjugated cotangent."""
    own = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = op(*own, **options)
    gradients = torch.autograd.grad(y, own, torch.tensor(np.conj(dy)).to(y.dtype))
    return [np.conj(gradient.resolve_conj().numpy()) for gradient in gradients]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(("name", "example"), CALLS)
def test_agrees_with_autograd(name: str, example: Example, dtype: str) -> None:
    op, arrays = OPERATIONS[name].function, samples(example, dtype)
    y, pullback = ac.vjp(op, *arrays, **example.options)
    dy = sample(y.shape, dtype, 9)
    for got, expected in zip(pullback(dy), torch_vjp(op, arrays, dy, example.options), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LINEAR)
def test_agrees_with_jax(name: str) -> None:
    op, example = OPERATIONS[name].function, first_example(name)
    arrays = samples(example, "complex128")
    y, pullback = ac.vjp(op, *arrays, **example.options)
    dy = sample(y.shape, "complex128", 9)
    _, jax_pullback = jax.vjp(lambda *own: op(*own, **example.options), *map(jax.numpy.asarray, arrays))
    for got, expected in zip(pullback(dy), jax_pullback(jax.numpy.asarray(dy)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_every_library_agrees(library: Library, dtype: str) -> None:
    wide = "complex128" if dtype == "complex64" else "float64"
    for name in ("correlate", "conv", "conv_transpose", "separable_conv"):
        example = first_example(name)
        op, options, arrays = OPERATIONS[name].function, example.options, samples(example, dtype)
        y, pullback = ac.vjp(op, *map(library.asarray, arrays), **options)
        dy = sample(tuple(y.shape), dtype, 9)
        expected = ac.vjp(op, *(array.astype(wide) for array in arrays), **options)[1](dy.astype(wide))
        for cotangent, array, other in zip(pullback(library.asarray(dy)), arrays, expected, strict=True):
            assert dtype_name(cotangent.dtype) == dtype and tuple(cotangent.shape) == array.shape
            np.testing.assert_allclose(library.to_numpy(cotangent), other, rtol=0, atol=1e-4)


def test_agrees_with_the_derivatives_of_xla_s_convolution() -> None:
    x, kernel, dy = sample((2, 4, 9, 8), "float64"), sample((6, 2, 3, 2), "float64"), sample((2, 6, 5, 4), "float64")

    def xla(x: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((2, 1), (-1, 3)), rhs_dilation=(1, 3), feature_group_count=2
        )

    options: dict[str, Any] = {"stride": 2, "padding": ((2, 1), (-1, 3)), "dilation": (1, 3), "groups": 2}
    ours = ac.vjp(ac.conv, x, kernel, **options)[1](dy)
    for got, expected in zip(ours, jax.vjp(xla, x, kernel)[1](dy), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_the_cotangent_of_a_real_array_is_real(library: Library) -> None:
    """As in JAX: the real part, where the other array is complex."""
    for dtypes in (("float64", "complex128"), ("complex128", "float64")):
        x, kernel = sample((2, 7), dtypes[0]), sample((3,), dtypes[1], 1)
        dy = sample((2, 5), "complex128", 2)
        ours = ac.vjp(ac.correlate, library.asarray(x), library.asarray(kernel))[1](library.asarray(dy))
        expected = jax.vjp(ac.correlate, jax.numpy.asarray(x), jax.numpy.asarray(kernel))[1](jax.numpy.asarray(dy))
        for cotangent, array, other in zip(ours, (x, kernel), expected, strict=True):
            assert dtype_name(cotangent.dtype) == array.dtype.name
            np.testing.assert_allclose(library.to_numpy(cotangent), other, rtol=0, atol=1e-12)


# Types


@pytest.mark.parametrize("with_bias", [False, True])
def test_cotangents_of_halves_are_summed_in_float32(library: Library, with_bias: bool) -> None:
    """3,008 ones: beyond 2,048 one more is lost in float16, and beyond 256 in bfloat16."""
    for dtype in library.halves:
        for x_shape, kernel_shape, at in (((3008, 1, 1), (1, 1, 1), 1), ((1, 1, 1), (3008, 1, 1), 0)):
            shapes = (x_shape, kernel_shape, (kernel_shape[0],))[: 2 + with_bias]
            arrays = [library.asarray(np.ones(shape, "float32"), dtype) for shape in shapes]
            y, pullback = ac.vjp(ac.conv, *arrays)
            cotangents = pullback(library.xp.ones_like(y))
            assert [cotangent.dtype for cotangent in cotangents] == [array.dtype for array in arrays]
            whole = [at, 2] if with_bias and at == 1 else [at]
            for i in whole:
                np.testing.assert_array_equal(library.to_numpy(cotangents[i]).ravel(), [3008])


@pytest.mark.parametrize(
    ("dtypes", "wish", "y_dtype"),
    [
        (("uint8", "uint8"), "int32", "int32"),
        (("float32", "float64"), None, "float64"),
        (("float64", "float32"), None, "float64"),
        (("float32", "float32"), "float64", "float64"),
        (("uint16", "uint16"), None, "uint16"),
    ],
)
def test_cotangents_have_their_arrays_dtypes(library: Library, dtypes: Any, wish: str | None, y_dtype: str) -> None:
    x, kernel = (np.arange(1, n + 1).astype(dtype) for n, dtype in zip((6, 3), dtypes, strict=True))
    own = library.asarray(x), library.asarray(kernel)
    y, pullback = ac.vjp(ac.correlate, *own, dtype=wish)
    assert dtype_name(y.dtype) == y_dtype
    dx, dk = pullback(library.asarray(np.array([1, 0, 2, 1]), y_dtype))
    assert (dx.dtype, dk.dtype) == (own[0].dtype, own[1].dtype)
    np.testing.assert_array_equal(library.to_numpy(dx), [1, 2, 5, 5, 8, 3])
    np.testing.assert_array_equal(library.to_numpy(dk), [11, 15, 19])


def test_an_adopted_constant_has_a_cotangent_too(library: Library) -> None:
    x, kernel = sample((2, 7), "float32"), sample((3,), "float64", 1)
    own = library.asarray(x)
    dx, dk = ac.vjp(ac.correlate, own, kernel)[1](library.asarray(np.ones((2, 5), "float32")))
    assert type(dx) is type(dk) is type(own) and (tuple(dx.shape), tuple(dk.shape)) == (x.shape, kernel.shape)


# What a caller can rely on


def test_a_pullback_serves_twice_and_changes_nothing(library: Library) -> None:
    for name, examples in EXAMPLES.items():
        arrays = samples(examples[0])
        own = [library.asarray(array) for array in arrays]
        y, pullback = ac.vjp(OPERATIONS[name].function, *own, **examples[0].options)
        dy = sample(tuple(y.shape))
        cotangent = library.asarray(dy)
        first = [library.to_numpy(part).copy() for part in pullback(cotangent)]
        for one, other in zip(first, pullback(cotangent), strict=True):
            np.testing.assert_array_equal(one, library.to_numpy(other))
        for array, before in zip((*own, cotangent), (*arrays, dy), strict=True):
            np.testing.assert_array_equal(library.to_numpy(array), before)


def test_what_no_output_reads_has_cotangent_zero(library: Library) -> None:
    x, kernel = library.asarray(sample((2, 9))), library.asarray(np.array([1, 2, 3]))
    y, pullback = ac.vjp(ac.correlate, x, kernel, stride=4)
    dx = library.to_numpy(pullback(library.asarray(np.ones(tuple(y.shape), int)))[0])
    assert not dx[:, [3, 7, 8]].any() and dx[:, [0, 4]].any()


@pytest.mark.parametrize("shapes", [((0, 2, 7), (3, 2, 3)), ((2, 0, 7), (3, 0, 3)), ((2, 2, 7), (0, 2, 3))])
def test_cotangents_of_empty_arrays(library: Library, shapes: Any) -> None:
    own = [library.asarray(np.ones(shape, "float32")) for shape in (*shapes, (shapes[1][0],))]
    y, pullback = ac.vjp(ac.conv, *own)
    cotangents = [library.to_numpy(part) for part in pullback(library.asarray(np.ones(tuple(y.shape), "float32")))]
    assert [part.shape for part in cotangents] == [tuple(array.shape) for array in own]
    assert not cotangents[0].any() and not cotangents[1].any()
    assert (cotangents[2] == prod(y.shape[::2])).all()


def test_the_cotangent_of_an_integer_result_is_an_integer(library: Library) -> None:
    """A float would be cut off in silence: 0.5 would count as 0."""
    y, pullback = ac.vjp(ac.correlate, library.asarray(np.arange(5)), library.asarray(np.array([1, 2])))
    with pytest.raises(TypeError, match="vjp: the cotangent of correlate is float64, y is int64"):
        pullback(library.asarray(np.full(tuple(y.shape), 0.5)))
