"""Wrong calls: a TypeError or ValueError that says operation, argument, value and rule."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dask.array
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import arrayconv as ac
from arrayconv.operations.conv import read_conv
from arrayconv.operations.linear import Options, known_call

if TYPE_CHECKING:
    from conftest import Library

LINE, TAPS = np.ones(8), np.ones(3)
X, KERNEL, BIAS = np.ones((2, 3, 8)), np.ones((4, 3, 2)), np.ones(4)
UNKNOWN = dask.array.ones(8)[dask.array.arange(8) > 3]


def correlate(**options: Any) -> Any:
    return ac.correlate(LINE, TAPS, **options)


def conv(**options: Any) -> Any:
    return ac.conv(X, KERNEL, **options)


def image(**options: Any) -> Any:
    return ac.correlate(np.ones((4, 4)), np.ones((2, 2)), **options)


def transposed(stride: int, ndim: int) -> Any:
    return ac.conv_transpose(np.ones((1, 1, *(4,) * ndim)), np.ones((1, 1, *(3,) * ndim)), stride=stride)


#: A wrong call, its exception, and what the message must say.
WRONG = [
    # sizes that nothing holds are refused at once
    (lambda: image(padding=10**12), ValueError, r"correlate: padding=1000000000000 .* fewer than 2\*\*63 .*; pad less"),
    (
        lambda: image(padding=10**9, boundary="wrap"),
        ValueError,
        "correlate: padding .* of 4 elements folds .*; pad less",
    ),
    (lambda: ac.pad(LINE, [(10**12, 0)], boundary="wrap"), ValueError, "pad: padding .* of 8 elements folds .* use 'e"),
    (lambda: ac.pad(LINE, [(10**15, 0)]), MemoryError, "allocate"),
    (lambda: correlate(padding=10**13), ValueError, r"\(1, 1, \d+\) takes more than \d+ tiles .*; pad less"),
    (lambda: transposed(10**12, 1), ValueError, "conv_transpose: no algorithm .* a base dilation of 10{12}; it takes"),
    (lambda: transposed(10**4, 2), ValueError, "conv_transpose: no algorithm .* 10{8} residues; it takes"),
    (lambda: transposed(10**12, 2), ValueError, r"conv_transpose: .* padded x of \d+ elements"),
    # what the planner is asked
    (
        lambda: ac.plan(ac.conv, X, KERNEL, strid=2),
        TypeError,
        "plan: conv has no option strid=2; its options are stride,",
    ),
    (lambda: ac.tune(ac.conv, X, KERNEL, strid=2), TypeError, "tune: conv has no option strid=2; its options are"),
    (lambda: ac.plan(ac.conv, X), TypeError, "plan: conv takes x, kernel, bias, and as options .* missing"),
    # what is no array
    (lambda: ac.conv([1.0], KERNEL), TypeError, "conv: x must be an array of NumPy"),
    (lambda: ac.correlate(LINE, [1.0]), TypeError, "correlate: kernel must be an array of NumPy"),
    (lambda: ac.conv(X, KERNEL, (1, 2, 3, 4)), TypeError, "conv: bias must be an array of NumPy"),
    (lambda: ac.convolve(1.0, TAPS), TypeError, "convolve: x must be an array of NumPy"),
    (lambda: ac.correlate(None, TAPS), TypeError, "correlate: x must be an array"),
    (lambda: ac.correlate(LINE, None), TypeError, "correlate: kernel must be an array"),
    (lambda: ac.pad([1], ((1, 1),)), TypeError, "pad: x must be an array"),
    (lambda: ac.windows([1], (1,)), TypeError, "windows: x must be an array"),
    (lambda: ac.correlate(np.ma.ones(8), TAPS), TypeError, "correlate: x must be an array .* got MaskedArray"),
    (lambda: ac.correlate(LINE, np.ma.ones(3)), TypeError, "correlate: kernel must be an array .* got MaskedArray"),
    (lambda: ac.corr2d(np.ones((2, 2)).view(np.matrix), np.ones((1, 1))), TypeError, "corr2d: x must .* got matrix"),
    (lambda: ac.correlate(torch.ones(3, 3).to_sparse(), torch.ones(1, 1)), TypeError, "correlate: x .* sparse"),
    # dtypes
    (lambda: ac.correlate(LINE > 0, TAPS), TypeError, "correlate: x has dtype bool"),
    (lambda: ac.conv(X, KERNEL > 0), TypeError, "conv: kernel has dtype bool"),
    (lambda: ac.conv(X, KERNEL, BIAS > 0), TypeError, "conv: bias has dtype bool"),
    (lambda: ac.pad(LINE > 0, ((1, 1),)), TypeError, "pad: x has dtype bool"),
    (lambda: ac.windows(LINE > 0, (1,)), TypeError, "windows: x has dtype bool"),
    (lambda: ac.correlate(LINE.astype(object), TAPS), TypeError, "correlate: x has dtype object"),
    (lambda: ac.correlate(LINE.astype(np.longdouble), TAPS), TypeError, "correlate: x has dtype .* cast x"),
    (lambda: ac.correlate(LINE.astype("m8[s]"), TAPS), TypeError, "correlate: x has dtype timedelta64"),
    (lambda: ac.correlate(np.array(["a"]), TAPS), TypeError, "correlate: x has dtype str"),
    (lambda: ac.correlate(torch.ones(4).to(torch.float8_e5m2), torch.ones(2)), TypeError, "x has dtype float8_e5m2"),
    (lambda: ac.correlate(jnp.ones(4, jnp.float8_e5m2), jnp.ones(2)), TypeError, "x has dtype float8_e5m2"),
    (lambda: ac.correlate(jnp.ones(4, jnp.int4), jnp.ones(2)), TypeError, "x has dtype int4"),
    (lambda: conv(dtype="float33"), TypeError, "conv: dtype='float33' is not one of int8, .*complex128"),
    (lambda: conv(dtype="bool"), TypeError, "conv: dtype='bool' is not one of"),
    (lambda: conv(dtype=3), TypeError, "conv: dtype=3 is not one of"),
    (lambda: conv(dtype=["float32"]), TypeError, r"conv: dtype=\['float32'\]"),
    (lambda: conv(dtype="int32"), TypeError, "conv: int32 can't hold x of float64"),
    (lambda: ac.conv(X * 1j, KERNEL, dtype="float32"), TypeError, "conv: float32 can't hold x of complex128"),
    (lambda: ac.conv(X, KERNEL, BIAS * 1j), TypeError, "conv: float64 can't hold bias of complex128"),
    (lambda: conv(dtype="bfloat16"), ValueError, "conv: dtype='bfloat16' is not a type that numpy has"),
    # several libraries and devices
    (lambda: ac.correlate(torch.ones(8), jnp.ones(2)), TypeError, "correlate: kernel is an array of jax, x .* torch"),
    (lambda: ac.correlate(jnp.ones(8), torch.ones(2)), TypeError, "correlate: kernel is an array of torch, x .* jax"),
    (
        lambda: ac.conv(torch.ones(2, 3, 8), torch.ones(4, 3, 2), jnp.ones(4)),
        TypeError,
        "conv: bias is an array of jax, x is one of torch",
    ),
    (
        lambda: ac.conv(X, torch.ones(4, 3, 2), jnp.ones(4)),
        TypeError,
        "conv: bias is an array of jax, kernel is one of torch",
    ),
    (
        lambda: ac.correlate(torch.ones(8), torch.ones(2, device="meta")),
        TypeError,
        "correlate: kernel is on device meta, x on cpu; .* move kernel",
    ),
    (lambda: ac.correlate(UNKNOWN, TAPS), ValueError, "correlate: x .* unknown chunk sizes, .* call its compute_chunk"),
    # ranks and shapes
    (lambda: ac.corr2d(LINE, TAPS), ValueError, r"corr2d: x must have 2 axes, got shape \(8,\)"),
    (lambda: ac.corr2d(np.ones((4, 4)), TAPS), ValueError, r"corr2d: kernel must have 2 axes, got shape \(3,\)"),
    (lambda: ac.corr2d(np.ones((4, 4)), np.ones((5, 1))), ValueError, "corr2d: kernel covers 5 .* padded input of 4"),
    (lambda: ac.correlate(LINE, np.ones(())), ValueError, r"correlate: kernel must have at least one axis, got shape"),
    (lambda: ac.correlate(LINE, np.ones((2, 2))), ValueError, "correlate: kernel has 2 axes, x has 1"),
    (lambda: ac.correlate(LINE, np.ones(0)), ValueError, r"correlate: kernel has spatial shape \(0,\)"),
    (lambda: ac.correlate(LINE, np.ones(9)), ValueError, "correlate: kernel covers 9 .* padded input of 8"),
    (lambda: correlate(dilation=4), ValueError, "correlate: kernel covers 9 .*3 taps, dilation 4.* padded input of 8"),
    (lambda: correlate(padding=-3), ValueError, r"kernel covers 3 .* padded input of 2 .*padding \(-3, -3\)"),
    (lambda: ac.correlate(np.ones(0), np.ones(1), padding="same"), ValueError, "kernel covers 1 .* padded input of 0"),
    (lambda: ac.conv(X, np.ones((4, 3, 9))), ValueError, "conv: kernel covers 9 elements along spatial axis 0"),
    (lambda: ac.conv(np.ones(3), KERNEL), ValueError, r"conv: x must have a channel axis and 1 .* got shape \(3,\)"),
    (lambda: ac.conv(X, np.ones((4, 3))), ValueError, r"conv: kernel must have two channel axes .* got shape \(4, 3\)"),
    (lambda: ac.conv(X, np.ones((4, 2, 2))), ValueError, "conv: kernel expects 2 input channels per group, x has 3"),
    (lambda: conv(channels="last"), ValueError, "conv: kernel expects 3 input channels per group, x has 8.*'last'"),
    (lambda: ac.conv(X, KERNEL, groups=2), ValueError, "conv: kernel expects 3 input .* x has 3 in 2 groups"),
    (lambda: ac.conv(X, np.ones((4, 1, 2)), groups=3), ValueError, "conv: groups=3 must divide .* 4 output channels"),
    (lambda: ac.conv(X, KERNEL, np.ones(3)), ValueError, r"conv: bias must have shape \(4,\).* got \(3,\)"),
    (lambda: ac.conv(X, KERNEL, np.ones((1, 4))), ValueError, r"conv: bias must have shape \(4,\).* got \(1, 4\)"),
    # ints
    (lambda: conv(stride=0), ValueError, "conv: stride must be >= 1, got 0"),
    (lambda: conv(stride=(-1,)), ValueError, r"conv: stride\[0\] must be >= 1, got -1"),
    (lambda: conv(stride=1.0), TypeError, "conv: stride must be an int, got 1.0 of type float"),
    (lambda: conv(stride=(1.0,)), TypeError, r"conv: stride\[0\] must be an int, got 1.0 of type float"),
    (lambda: conv(stride=True), TypeError, "conv: stride must be an int, got True of type bool"),
    (lambda: conv(stride=np.True_), TypeError, "conv: stride must be an int, got .*True"),
    (lambda: conv(stride=np.asarray(1.0)), TypeError, r"conv: stride must be an int, got array\(1.\)"),
    (lambda: conv(stride=torch.tensor(True)), TypeError, r"conv: stride must be an int, got tensor\(True\)"),
    (lambda: conv(padding=jnp.asarray(1.0)), TypeError, "conv: padding must be an int, got Array"),
    (lambda: conv(stride="2"), TypeError, "conv: stride must be an int, got '2'"),
    (lambda: conv(stride=None), TypeError, "conv: stride must be an int, got None"),
    (lambda: conv(stride=(1, 1)), ValueError, "conv: stride has 2 entries, expected one for each of 1 spatial axes"),
    (lambda: correlate(dilation=0), ValueError, "correlate: dilation must be >= 1, got 0"),
    (lambda: correlate(dilation=True), TypeError, "correlate: dilation must be an int, got True"),
    (lambda: correlate(dilation=(1, 1)), ValueError, "correlate: dilation has 2 entries, expected one for each of 1"),
    (lambda: conv(groups=0), ValueError, "conv: groups must be >= 1, got 0"),
    (lambda: conv(groups=True), TypeError, "conv: groups must be an int, got True of type bool"),
    (lambda: conv(groups=1.0), TypeError, "conv: groups must be an int, got 1.0"),
    (lambda: conv(padding=1.5), TypeError, "conv: padding must be an int, got 1.5"),
    (lambda: conv(padding=True), TypeError, "conv: padding must be an int, got True"),
    (lambda: conv(padding=None), TypeError, "conv: padding must be an int, got None"),
    (lambda: conv(padding=((1.5, 2),)), TypeError, r"conv: padding\[0\]\[0\] must be an int, got 1.5"),
    (lambda: conv(padding=(1, 2)), ValueError, "conv: padding has 2 entries, expected .* for each of 1 spatial axes"),
    (lambda: conv(padding=((1, 2, 3),)), ValueError, r"conv: padding\[0\] must be an int or a \(low, high\) pair"),
    (lambda: correlate(axes=3), ValueError, r"correlate: axes=\(3,\) must be different axes of x, which has 1"),
    (lambda: correlate(axes=1.0), TypeError, "correlate: axes must be an int, got 1.0"),
    (lambda: correlate(axes=True), TypeError, "correlate: axes must be an int, got True"),
    (lambda: correlate(axes="0"), TypeError, "correlate: axes must be a tuple of ints, got '0'"),
    (lambda: ac.correlate(X, TAPS, axes=(0, 1)), ValueError, "correlate: axes=.* names 2 axes of x, the kernel has 1"),
    (lambda: ac.correlate(X, np.ones((1, 1)), axes=(2, -1)), ValueError, r"axes=\(2, -1\) must be different axes"),
    # words
    (lambda: correlate(padding="SAME"), ValueError, "correlate: padding='SAME' is not one of 'valid', 'same'"),
    (lambda: correlate(boundary="mirror"), ValueError, "correlate: boundary='mirror' is not one of 'constant', 'edge'"),
    (lambda: correlate(boundary=None), TypeError, "correlate: boundary must be one of 'constant', .* got None"),
    (lambda: correlate(boundary="edge"), ValueError, "boundary='edge' has no effect with padding='valid'; give a pad"),
    (lambda: conv(boundary="wrap", padding="valid"), ValueError, "conv: boundary='wrap' has no effect"),
    (
        lambda: ac.correlate(np.ones(0), np.ones(1), padding=1, boundary="edge"),
        ValueError,
        "correlate: boundary='edge' can't pad spatial axis 0 of size 0",
    ),
    (lambda: conv(channels="NCHW"), ValueError, "conv: channels='NCHW' is not one of 'first', 'last'"),
    (lambda: conv(channels=1), TypeError, "conv: channels must be one of 'first', 'last', got 1"),
    (lambda: conv(algorithm="quick"), ValueError, "conv: algorithm='quick' is not one of 'auto', 'native'"),
    (lambda: conv(algorithm=None), TypeError, "conv: algorithm must be one of 'auto', .* got None"),
    (lambda: conv(algorithm=["direct"]), TypeError, r"conv: algorithm must be one of 'auto', .* got \['direct'\]"),
    (lambda: conv(algorithm="native"), ValueError, "conv: algorithm='native' can't serve .* one input channel, not 3"),
    (lambda: ac.correlate(LINE, TAPS, stride=2, algorithm="native"), ValueError, "takes no stride and no dilation"),
    (
        lambda: ac.correlate(np.ones((4, 4)), np.ones((2, 2)), algorithm="native"),
        ValueError,
        "numpy.convolve takes one spatial axis, not 2",
    ),
    (lambda: conv(strides=2), TypeError, "unexpected keyword argument 'strides'"),
    # pad
    (lambda: ac.pad(X, ((1, 1),)), ValueError, r"pad: widths has 1 entries, expected one \(low, high\) pair .* 3 axes"),
    (lambda: ac.pad(LINE, ((1, 2, 3),)), ValueError, r"pad: widths\[0\] must be an int or a \(low, high\) pair"),
    (lambda: ac.pad(LINE, ((1.0, 1),)), TypeError, r"pad: widths\[0\]\[0\] must be an int, got 1.0"),
    (lambda: ac.pad(LINE, ((True, 1),)), TypeError, r"pad: widths\[0\]\[0\] must be an int, got True"),
    (lambda: ac.pad(LINE, ((-5, -4),)), ValueError, r"pad: widths\[0\]=\(-5, -4\) crops more than axis 0 has"),
    (lambda: ac.pad(LINE, ((1, 1),), boundary="zeros"), ValueError, "pad: boundary='zeros' is not one of"),
    (lambda: ac.pad(np.ones(0), ((1, 1),), boundary="wrap"), ValueError, "pad: boundary='wrap' can't continue axis 0"),
    (lambda: ac.pad(LINE, ((1, 1),), value="1"), TypeError, "pad: value must be a number, got '1'"),
    (lambda: ac.pad(LINE, ((1, 1),), value=True), TypeError, "pad: value must be a number, got True"),
    (lambda: ac.pad(LINE, ((1, 1),), value=1j), ValueError, "pad: value=1j is no float64"),
    (lambda: ac.pad(LINE.astype("i1"), ((1, 1),), value=1.5), ValueError, "pad: value=1.5 is no int8"),
    (lambda: ac.pad(LINE.astype("i1"), ((1, 1),), value=300), ValueError, "pad: value=300 is outside int8's range"),
    (lambda: ac.pad(LINE.astype("u1"), ((1, 1),), value=-1), ValueError, "pad: value=-1 is outside uint8's range"),
    (lambda: ac.pad(LINE.astype("f4"), ((1, 1),), value=1e300), ValueError, r"pad: value=1e\+300 .* float32"),
    # windows
    (lambda: ac.windows(LINE, 2), TypeError, r"windows: window must be a tuple of ints, got 2; write .* \(2,\)"),
    (lambda: ac.windows(LINE, (2, 2)), ValueError, r"windows: window=\(2, 2\) must have 1 to 1 entries"),
    (lambda: ac.windows(LINE, ()), ValueError, r"windows: window=\(\) must have 1 to 1 entries"),
    (lambda: ac.windows(LINE, (0,)), ValueError, r"windows: window\[0\] must be >= 1, got 0"),
    (lambda: ac.windows(LINE, (9,)), ValueError, "windows: window of 9 .* axis 0 of x has 8"),
    (lambda: ac.windows(LINE, (3,), dilation=4), ValueError, r"windows: window of 3 \(dilation 4\) covers 9"),
    (lambda: ac.windows(LINE, (3,), stride=0), ValueError, "windows: stride must be >= 1, got 0"),
    (lambda: ac.windows(LINE, (3,), stride=(1, 1)), ValueError, "windows: stride has 2 entries"),
    # settings
    (lambda: ac.settings(workspace=0).__enter__(), ValueError, "settings: workspace must be >= 1, got 0"),
    (lambda: ac.settings(workspace=1e6).__enter__(), TypeError, "settings: workspace must be an int, got 1000000.0"),
    (lambda: ac.settings(accuracy="fast").__enter__(), ValueError, "settings: accuracy='fast' is not one of 'element"),
    # vjp
    (lambda: ac.vjp(np.add, X, KERNEL), TypeError, "vjp: op must be a function of arrayconv .* got <ufunc 'add'>"),
    (lambda: ac.vjp("conv", X, KERNEL), TypeError, "vjp: op must be a function of arrayconv .* got 'conv'"),
    (lambda: ac.vjp(ac.conv, X), TypeError, "'kernel'"),
    (lambda: ac.vjp(ac.conv, X, KERNEL, strides=2), TypeError, "vjp: conv has no option strides=2"),
    (lambda: ac.vjp(ac.conv, X, KERNEL, stride=0), ValueError, "conv: stride must be >= 1, got 0"),
    (lambda: ac.vjp(ac.conv, X, KERNEL)[1](np.ones(3)), ValueError, r"cotangent of conv .* y's shape \(2, 4, 7\)"),
    (lambda: ac.vjp(ac.conv, X, KERNEL)[1](torch.ones(2, 4, 7)), TypeError, "cotangent of conv .* numpy, got Tensor"),
    (lambda: ac.vjp(ac.conv, X, KERNEL)[1]([1.0]), TypeError, "vjp: the cotangent of conv must be an array"),
    (lambda: ac.vjp(ac.conv, X, KERNEL)[1](np.ones((2, 4, 7)) * 1j), TypeError, "cotangent of conv is complex"),
]


#: Right calls of the same shapes as wrong ones.
RIGHT = (
    correlate,
    conv,
    lambda: ac.conv(X, KERNEL, BIAS),
    lambda: ac.correlate(torch.ones(3, 3), torch.ones(1, 1)),
    lambda: ac.correlate(torch.ones(8), torch.ones(2)),
)


@pytest.mark.parametrize(
    ("call", "error", "match"), WRONG, ids=[f"{i}-{re.sub('[^a-z0-9 ]', '', row[2])}" for i, row in enumerate(WRONG)]
)
def test_wrong_calls_say_what_is_wrong(call: Any, error: type[Exception], match: str) -> None:
    for right in RIGHT:
        right()  # a plan in the cache hides no error
    with pytest.raises(error, match=match):
        call()


def test_errors_are_the_same_on_every_library(library: Library) -> None:
    x, kernel, bias = (library.asarray(array) for array in (X, KERNEL, BIAS))
    for error, match, options in (
        (ValueError, "conv: stride must be >= 1", {"stride": 0}),
        (ValueError, "conv: kernel expects 3 input channels", {"groups": 3}),
        (ValueError, "conv: boundary='edge' has no effect", {"boundary": "edge"}),
        (TypeError, "conv: dtype='float33'", {"dtype": "float33"}),
        (TypeError, "conv: int32 can't hold x of float64", {"dtype": "int32"}),
    ):
        with pytest.raises(error, match=match):
            ac.conv(x, kernel, bias, **options)
    with pytest.raises(TypeError, match="conv: x has dtype bool"):
        ac.conv(x > 0, kernel)
    with pytest.raises(ValueError, match=r"conv: bias must have shape \(4,\)"):
        ac.conv(x, kernel, bias[:3])
    with pytest.raises(TypeError, match="conv: bias must be an array"):
        ac.conv(x, kernel, [1.0, 2.0, 3.0, 4.0])


def test_a_cached_plan_serves_what_it_was_made_for() -> None:
    def planned(x: Any, kernel: Any) -> Any:
        return known_call(read_conv, "conv", x, kernel, None, None, Options())[0].call

    call = planned(X, KERNEL)
    assert planned(X + 1, KERNEL[:, ::-1]) is call
    assert planned(X.astype(np.float32), KERNEL) is not call
    with ac.settings(workspace=2**20):
        assert planned(X, KERNEL).program.problem.settings.workspace == 2**20
    np.testing.assert_array_equal(ac.conv(X.astype(">f8"), KERNEL), ac.conv(X, KERNEL))
    y = ac.conv(torch.tensor(X), torch.tensor(KERNEL))
    torch.testing.assert_close(ac.conv(torch.tensor(X), KERNEL), y)
    torch.testing.assert_close(ac.conv(X, torch.tensor(KERNEL)), y)


def test_ints_may_be_numpy_s_and_sequences_lists() -> None:
    expected = ac.conv(X, KERNEL, stride=2, padding=((1, 0),), dilation=2)
    y = ac.conv(X, KERNEL, stride=np.int64(2), padding=[(np.int8(1), 0)], dilation=np.array([2]))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(ac.conv(X, KERNEL, stride=[2], padding=[[1, 0]], dilation=(2,)), expected)
    np.testing.assert_array_equal(ac.pad(LINE, [[1, 2]]), ac.pad(LINE, ((1, 2),)))
    np.testing.assert_array_equal(ac.pad(LINE, np.array([[1, 2]])), ac.pad(LINE, ((1, 2),)))
    np.testing.assert_array_equal(ac.pad(LINE, ((1, 2),), value=np.float32(3)), ac.pad(LINE, ((1, 2),), value=3))
    np.testing.assert_array_equal(ac.windows(LINE, [np.int16(2)]), ac.windows(LINE, (2,)))


WITHOUT_X64 = """
import warnings
warnings.simplefilter("error")
import jax, numpy as np, arrayconv as ac
x = jax.numpy.arange(4)
assert x.dtype == "int32"
print(ac.correlate(x, np.array([1, 2])).dtype, ac.correlate(x * 1.0, np.array([1.0, 2.0])).dtype)
print(ac.correlate(np.arange(4.0), jax.numpy.ones(2)).dtype, ac.correlate(x, np.array([0.5])).dtype)
for constant, dtype in ((2**40 + 5, None), (-(2**31) - 1, None), (1, "int64")):
    try:
        print("wrong", ac.correlate(x, np.array([constant]), dtype=dtype))
    except ValueError as error:
        print(error)
"""


def test_constants_that_jax_would_truncate_are_refused() -> None:
    """A process of its own: x64 can't be switched for one test."""
    code = [sys.executable, "-c", WITHOUT_X64]
    lines = subprocess.run(code, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert lines[:2] == ["int32 float32", "float32 float32"]
    assert re.match(r"correlate: kernel holds 1099511627781, which jax's int32 beside x can't hold; enable", lines[2])
    assert re.match(r"correlate: kernel holds -2147483649, which jax's int32 beside x can't hold", lines[3])
    assert re.match(r"correlate: dtype='int64' is not a type that jax has here; enable .*jax_enable_x64", lines[4])


@pytest.mark.parametrize(
    "two", [np.int64(2), np.asarray(2), np.asarray(2, "u1"), torch.tensor(2), jnp.asarray(2)], ids=repr
)
def test_an_array_without_axes_is_its_number(two: Any) -> None:
    expected = ac.correlate(LINE, TAPS, stride=2, padding=2, dilation=2)
    np.testing.assert_array_equal(ac.correlate(LINE, TAPS, stride=two, padding=two, dilation=(two,)), expected)
    np.testing.assert_array_equal(ac.pad(LINE, [(two, two)]), ac.pad(LINE, [(2, 2)]))
    assert ac.output_size(9, two, stride=two) == ac.output_size(9, 2, stride=2)
    assert ac.plan(ac.correlate, (9,), (3,), stride=two).output_shape == (4,)
