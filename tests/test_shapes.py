"""Shape arithmetic against windows placed one by one, PyTorch, and what a chain of layers really depends on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arrayconv.shapes import (
    Layer,
    ReceptiveField,
    input_sizes,
    output_shape,
    output_size,
    receptive_field,
    resolve_padding,
    transposed_size,
)

Array = Any
WORDS = ("valid", "same", "same_lower", "full", "causal")


def place_windows(
    size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, ceil: bool = False
) -> int:
    """Count windows by laying each one down; with ceil the last may hang over, but starts before the high padding."""
    low, high = padding
    padded = range(-low, size + high)
    count = 0
    start = -low
    while all(start + tap * dilation in padded for tap in range(kernel)):
        count += 1
        start += stride
    covered_until = start - stride + (kernel - 1) * dilation
    if ceil and count and covered_until != size + high - 1 and start < size + min(0, high):
        count += 1
    return count


@st.composite
def axes(draw: st.DrawFn) -> dict[str, Any]:
    """The options of a one-axis call."""
    return {
        "stride": draw(st.integers(1, 5)),
        "padding": draw(st.tuples(st.integers(-3, 6), st.integers(-3, 6))),
        "dilation": draw(st.integers(1, 4)),
    }


sizes = st.integers(0, 20)
kernels = st.integers(1, 6)


@given(sizes, kernels, axes(), st.booleans())
def test_output_size_counts_the_windows_that_fit(size: int, kernel: int, axis: dict[str, Any], ceil: bool) -> None:
    expected = place_windows(size, kernel, **axis, ceil=ceil)
    if expected:
        assert output_size(size, kernel, **axis, ceil=ceil) == expected
    else:
        with pytest.raises(ValueError, match=rf"output_size: kernel={kernel} is longer than the padded input"):
            output_size(size, kernel, **axis, ceil=ceil)


@given(sizes, kernels, axes())
def test_an_int_pads_each_side(size: int, kernel: int, axis: dict[str, Any]) -> None:
    amount = max(axis["padding"]) + 20
    assert output_size(size, kernel, **axis | {"padding": amount}) == output_size(
        size, kernel, **axis | {"padding": (amount, amount)}
    )


@settings(deadline=None)
@given(st.integers(1, 20), kernels, axes(), st.data())
def test_ceil_is_that_of_torch(size: int, kernel: int, axis: dict[str, Any], data: st.DataObject) -> None:
    covered = axis["dilation"] * (kernel - 1) + 1
    axis["padding"] = data.draw(st.integers(0, kernel // 2))  # all that torch admits
    assume(covered <= size + 2 * axis["padding"])
    pooled = torch.nn.functional.max_pool1d(torch.zeros(1, 1, size), kernel, **axis, ceil_mode=True)
    assert output_size(size, kernel, **axis, ceil=True) == pooled.shape[-1]


@given(st.integers(1, 12), kernels, axes())
def test_input_sizes_are_all_sizes_with_that_output(output: int, kernel: int, axis: dict[str, Any]) -> None:
    found = input_sizes(output, kernel, **axis)
    beyond = output * axis["stride"] + kernel * axis["dilation"] + 7
    assert list(found) == [n for n in range(1, beyond) if place_windows(n, kernel, **axis) == output]
    assert len(found) <= axis["stride"]


@given(st.integers(1, 12), kernels, axes(), st.data())
def test_transposed_size_inverts_output_size(size: int, kernel: int, axis: dict[str, Any], data: st.DataObject) -> None:
    extra = data.draw(st.integers(0, axis["stride"] - 1))
    plain = (size - 1) * axis["stride"] + axis["dilation"] * (kernel - 1) + 1 - sum(axis["padding"])
    if plain + extra < 0:
        with pytest.raises(ValueError, match=r"transposed_size: padding=\(.*\) trims \d+ elements of \d+; pass less"):
            transposed_size(size, kernel, **axis, output_padding=extra)
    else:
        result = transposed_size(size, kernel, **axis, output_padding=extra)
        assert output_size(result, kernel, **axis) == size
        assert result < 1 or result in input_sizes(size, kernel, **axis)


@settings(deadline=None)
@given(st.integers(1, 8), kernels, axes(), st.integers(0, 4), st.data())
def test_transposed_size_is_that_of_torch(
    size: int, kernel: int, axis: dict[str, Any], padding: int, data: st.DataObject
) -> None:
    most = max(axis["stride"], axis["dilation"]) - 1
    axis |= {"padding": padding, "output_padding": data.draw(st.integers(0, most))}
    assume((size - 1) * axis["stride"] + axis["dilation"] * (kernel - 1) + 1 > 2 * padding)
    y = torch.nn.functional.conv_transpose1d(torch.zeros(1, 1, size), torch.zeros(1, 1, kernel), **axis)
    assert transposed_size(size, kernel, **axis) == y.shape[-1]


@given(st.integers(1, 20), kernels, st.integers(1, 5), st.integers(1, 4))
def test_words_promise_their_output(size: int, kernel: int, stride: int, dilation: int) -> None:
    covered = dilation * (kernel - 1) + 1
    promised = {
        "same": -(-size // stride),
        "same_lower": -(-size // stride),
        "causal": -(-size // stride),
        "full": -(-(size + covered - 1) // stride),
    }
    for word, count in promised.items():
        options: dict[str, Any] = {"stride": stride, "dilation": dilation}
        assert output_shape((size,), (kernel,), padding=word, **options) == (count,)
        ((low, high),) = resolve_padding(word, (size,), (kernel,), **options)
        assert min(low, high) >= 0
        if word.startswith("same"):
            assert abs(high - low) <= 1
            assert low + high == 0 or place_windows(size, kernel, stride, (low, high - 1), dilation) < count


def test_words_as_numbers() -> None:
    expected = {
        "valid": ((0, 0), (0, 0)),
        "same": ((1, 2), (0, 1)),
        "same_lower": ((2, 1), (1, 0)),
        "full": ((3, 3), (2, 2)),
        "causal": ((3, 0), (2, 0)),
    }
    assert tuple(expected) == WORDS
    for word, pairs in expected.items():
        assert resolve_padding(word, (7, 8), (4, 2), stride=(1, 2), dilation=(1, 2)) == pairs


@pytest.mark.parametrize(
    ("padding", "pairs"),
    [(1, ((1, 1), (1, 1))), ((1, -2), ((1, 1), (-2, -2))), (((0, 1), 2), ((0, 1), (2, 2))), ([[1, 0], [0, -1]],) * 2],
)
def test_padding_in_numbers(padding: Any, pairs: Any) -> None:
    assert resolve_padding(padding, (7, 8), (3, 3)) == tuple(map(tuple, pairs))


@given(st.lists(st.tuples(st.integers(1, 20), kernels, axes()), max_size=3), st.booleans())
def test_output_shape_is_output_size_of_each_axis(drawn: list[tuple[int, int, dict[str, Any]]], ceil: bool) -> None:
    assume(all(place_windows(size, kernel, **axis) for size, kernel, axis in drawn))
    options: dict[str, Any] = {key: [axis[key] for *_, axis in drawn] for key in ("stride", "padding", "dilation")}
    shape = output_shape([size for size, *_ in drawn], [kernel for _, kernel, _ in drawn], **options, ceil=ceil)
    assert shape == tuple(output_size(size, kernel, **axis, ceil=ceil) for size, kernel, axis in drawn)


def test_numpy_ints_become_ints() -> None:
    """Left as they are, uint8 sizes would wrap."""
    size, kernel, one = np.array([200, 3, 1], np.uint8)
    options: Any = {"stride": kernel, "padding": (one, one), "dilation": one}
    results = [
        output_size(size, kernel, **options),
        transposed_size(size, kernel, **options, output_padding=one),
        input_sizes(size, kernel, **options).start,
        *output_shape(np.array([9, 8]), (kernel, one)),  # type: ignore[arg-type]
    ]
    assert results == [67, 599, 598, 7, 8]
    assert {type(n) for n in results} == {int}


# Receptive fields


def correlate(x: Array, layer: Layer) -> Array:
    """One layer with a kernel of ones and zeros outside, an element at a time."""
    ndim = x.ndim
    stride, dilation = (np.broadcast_to(entry, ndim) for entry in (layer.stride, layer.dilation))
    pairs = resolve_padding(layer.padding, x.shape, layer.window, stride=layer.stride, dilation=layer.dilation)
    out = output_shape(x.shape, layer.window, stride=layer.stride, padding=pairs, dilation=layer.dilation)
    y = np.zeros(out, x.dtype)
    for j in np.ndindex(*out):
        for tap in np.ndindex(*layer.window):
            i = tuple(j[a] * stride[a] + tap[a] * dilation[a] - pairs[a][0] for a in range(ndim))
            if all(0 <= i[a] < x.shape[a] for a in range(ndim)):
                y[j] += x[i]
    return y


def influence(shape: tuple[int, ...], layers: Sequence[Layer]) -> Array:
    """``influence[j][i]``: does output j of the chain notice when input element i changes?"""
    columns = []
    for i in np.ndindex(*shape):
        y = np.zeros(shape, np.int64)
        y[i] = 1
        for layer in layers:
            y = correlate(y, layer)
        columns.append(y != 0)
    return np.moveaxis(np.reshape(columns, shape + columns[0].shape), range(len(shape)), range(-len(shape), 0))


def sees_no_padding(j: tuple[int, ...], shape: tuple[int, ...], layers: Sequence[Layer]) -> bool:
    """Walk back from output j: does every window on the way lie inside its layer's input?"""
    shapes = [shape]
    for layer in layers:
        shapes.append(correlate(np.zeros(shapes[-1]), layer).shape)
    first, last = list(j), list(j)
    for layer, inputs in zip(reversed(layers), reversed(shapes[:-1]), strict=True):
        pairs = resolve_padding(layer.padding, inputs, layer.window, stride=layer.stride, dilation=layer.dilation)
        for a, (low, _) in enumerate(pairs):
            stride, dilation = (np.broadcast_to(entry, len(j))[a] for entry in (layer.stride, layer.dilation))
            first[a] = first[a] * stride - low
            last[a] = last[a] * stride - low + (layer.window[a] - 1) * dilation
        if any(low < 0 or high >= size for low, high, size in zip(first, last, inputs, strict=True)):
            return False
    return True


def check_field(shape: tuple[int, ...], layers: Sequence[Layer], field: ReceptiveField) -> int:
    """Every dependence lies in the field, and fills it from end to end away from padding; counts the latter."""
    depends = influence(shape, layers)
    inner = 0
    for j in np.ndindex(*depends.shape[: len(shape)]):
        seen = np.argwhere(depends[j])
        start = np.array(field.start) + np.array(j) * field.stride
        if len(seen):
            assert (seen >= start).all()
            assert (seen < start + field.size).all()
        if sees_no_padding(j, shape, layers):
            inner += 1
            assert (seen.min(0) == start).all()
            assert (seen.max(0) == start + np.array(field.size) - 1).all()
    return inner


@st.composite
def chains(draw: st.DrawFn) -> list[Layer]:
    return [
        Layer(
            (draw(st.integers(1, 4)),),
            draw(st.integers(1, 3)),
            draw(st.sampled_from(WORDS) | st.tuples(st.tuples(st.integers(-2, 3), st.integers(-2, 3)))),
            draw(st.integers(1, 2)),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


def fits(size: int, layers: Sequence[Layer]) -> bool:
    for window, stride, padding, dilation in cast(Any, layers):
        (pair,) = resolve_padding(padding, (size,), window, stride=stride, dilation=dilation)
        size = place_windows(size, window[0], stride, pair, dilation)
        if size == 0:
            return False
    return True


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 24), chains())
def test_receptive_field_of_a_real_chain(size: int, layers: list[Layer]) -> None:
    if fits(size, layers):
        check_field((size,), layers, receptive_field(layers, spatial_shape=(size,)))
    else:
        with pytest.raises(ValueError, match=r"window\[0\]=\d is longer than the padded input"):
            receptive_field(layers, spatial_shape=(size,))


def test_receptive_field_in_two_dimensions() -> None:
    layers = [Layer((3, 2), stride=(1, 2), padding="same"), Layer((1, 3), padding=((0, 0), (1, 1)), dilation=(1, 2))]
    field = receptive_field(layers, spatial_shape=(6, 11))
    assert field == ReceptiveField(size=(3, 10), stride=(1, 2), start=(-1, -2))
    assert check_field((6, 11), layers, field) > 0


@pytest.mark.parametrize("word", WORDS)
def test_words_that_depend_on_the_size_ask_for_it(word: str) -> None:
    for kernel, stride, dilation in product(range(1, 6), range(1, 5), (1, 2)):
        layers = [Layer((kernel,), stride, word, dilation)]
        window = dilation * (kernel - 1) + 1
        truths = {receptive_field(layers, spatial_shape=(size,)) for size in range(window, window + 2 * stride)}
        if len(truths) == 1:
            assert receptive_field(layers) in truths
        else:
            assert word in ("same", "same_lower")
            assert stride > 1
            with pytest.raises(ValueError, match=rf"layers\[0\]: padding='{word}' with stride=.* pass spatial_shape"):
                receptive_field(layers)


# Bad arguments


BAD = [
    (output_size, (-1, 3), {}, ValueError, r"size must be >= 0, got -1"),
    (output_size, (5.0, 3), {}, TypeError, r"size must be an int, got 5.0 of type float"),
    (output_size, (5, 0), {}, ValueError, r"kernel must be >= 1, got 0"),
    (output_size, (5, 3), {"stride": 0}, ValueError, r"stride must be >= 1, got 0"),
    (output_size, (5, 3), {"dilation": 0}, ValueError, r"dilation must be >= 1, got 0"),
    (output_size, (5, 3), {"padding": "same"}, TypeError, r"padding must be an int, got 'same'"),
    (output_size, (5, 3), {"padding": (1, 2, 3)}, ValueError, r"padding must be an int or a \(low, high\) pair"),
    (output_size, (5, 3), {"ceil": 1}, TypeError, r"ceil must be True or False, got 1"),
    (
        output_size,
        (4, 3),
        {"padding": (1, -1), "dilation": 2},
        ValueError,
        r"kernel=3 is longer than the padded input: with dilation=2 it covers 5 elements of 4 "
        r"\(size 4, padding \(1, -1\)\); pass a smaller kernel or more padding",
    ),
    (output_size, (2, 3), {"stride": 2, "ceil": True}, ValueError, r"kernel=3 is longer than the padded input"),
    (output_shape, ((4, 4), (3, 5)), {}, ValueError, r"window\[1\]=5 is longer than .*; pass a smaller window\[1\] or"),
    (output_shape, ((4, 4), 3), {}, TypeError, r"window must be a tuple of ints, got 3; write for example \(3,\)"),
    (output_shape, ((4, -4), (3, 3)), {}, ValueError, r"spatial_shape\[1\] must be >= 0, got -4"),
    (output_shape, ((4, 4), (3, 0)), {}, ValueError, r"window\[1\] must be >= 1, got 0"),
    (output_shape, ((4, 4), (3,)), {}, ValueError, r"window=\(3,\) has 1 entries, spatial_shape=\(4, 4\) has 2; pass"),
    (output_shape, ((4,), (3,)), {"stride": (1, 2)}, ValueError, r"stride has 2 entries"),
    (output_shape, ((4,), (3,)), {"dilation": (1, 2)}, ValueError, r"dilation has 2 entries"),
    (output_shape, ((4,), (3,)), {"ceil": None}, TypeError, r"ceil must be True or False, got None"),
    (resolve_padding, ("half", (4,), (3,)), {}, ValueError, r"padding='half' is not one of 'valid', 'same'"),
    (resolve_padding, ((1, 1), (4,), (3,)), {}, ValueError, r"padding has 2 entries, .*; pass one int"),
    (input_sizes, (0, 3), {}, ValueError, r"output must be >= 1, got 0"),
    (input_sizes, (4, 3), {"stride": -1}, ValueError, r"stride must be >= 1, got -1"),
    (transposed_size, (0, 3), {}, ValueError, r"size must be >= 1, got 0"),
    (transposed_size, (4, 3), {"output_padding": -1}, ValueError, r"output_padding must be >= 0, got -1"),
    (
        transposed_size,
        (4, 3),
        {"stride": 2, "output_padding": 3, "dilation": 3},
        ValueError,
        r"output_padding=3 must be < stride=2 or < dilation=3; pass a smaller output_padding",
    ),
    (
        transposed_size,
        (2, 3),
        {"padding": 3},
        ValueError,
        r"padding=\(3, 3\) trims 6 elements of 4; pass less padding",
    ),
    (receptive_field, ([],), {}, ValueError, r"layers=\(\) is empty, a chain has at least one layer; pass \[Layer"),
    (receptive_field, (3,), {}, TypeError, r"layers must be a sequence of Layers, got 3; write \[Layer"),
    (receptive_field, ([(3, 3)],), {}, TypeError, r"layers\[0\]=\(3, 3\) is not a Layer; write \[Layer"),
    (receptive_field, (Layer((3, 3)),), {}, TypeError, r"layers\[0\]=\(3, 3\) is not a Layer; write \[Layer"),
    (receptive_field, ([Layer(cast(Any, 3))],), {}, TypeError, r"layers\[0\]: window must be a tuple of ints"),
    (receptive_field, ([Layer((3,), 0)],), {}, ValueError, r"layers\[0\]: stride must be >= 1"),
    (
        receptive_field,
        ([Layer((3,)), Layer((3, 3))],),
        {},
        ValueError,
        r"layers\[1\]\.window=\(3, 3\) and layers\[0\]\.window=\(3,\) must have one entry .*; write a 1 where",
    ),
    (
        receptive_field,
        ([Layer((3,))],),
        {"spatial_shape": (4, 4)},
        ValueError,
        r"layers\[0\]: window=\(3,\) has 1 entries, spatial_shape=\(4, 4\) has 2",
    ),
    (
        receptive_field,
        ([Layer((3,)), Layer((3,))],),
        {"spatial_shape": (4,)},
        ValueError,
        r"layers\[1\]: window\[0\]=3 is longer than the padded input",
    ),
]


@pytest.mark.parametrize(("function", "arguments", "options", "error", "message"), BAD)
def test_bad_arguments(
    function: Any, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=rf"^{function.__name__}: {message}"):
        function(*arguments, **options)


def test_shape_arithmetic_imports_no_array_library() -> None:
    code = "import sys, arrayconv.shapes; assert not {'torch', 'jax', 'dask'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
