"""Hypothesis strategies: geometries that are valid by construction, and calls with their arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .oracle import NumPyArray, each, fit, operation_name

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

Shape = tuple[int, ...]

#: Largest spatial size, kernel size and dilation, by the number of spatial axes: the oracle visits every tap.
LIMITS = {1: (9, 5, 3), 2: (7, 3, 3), 3: (4, 3, 2), 4: (3, 2, 2)}

#: What padding may hold, and the padding words that add any.
BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")
WORDS = ("same", "same_lower", "full", "causal")

#: How an array may lie in memory.
LAYOUTS = ("contiguous", "fortran", "strided", "reversed", "read-only")


class Case(NamedTuple):
    """A valid geometry in a caller's words; ``inputs`` and ``outputs`` are channels per group."""

    batch: Shape
    sizes: Shape
    window: Shape
    groups: int
    inputs: int
    outputs: int
    channels: str
    stride: int | Shape
    dilation: int | Shape
    padding: str | int | Shape | tuple[tuple[int, int], ...]
    boundary: str

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that every linear operation takes."""
        return {name: getattr(self, name) for name in ("stride", "dilation", "padding", "boundary")}


class Call(NamedTuple):
    """``op(x, kernel, [bias], **options)``: the arrays are NumPy's."""

    op: str
    x: NumPyArray
    kernel: NumPyArray
    bias: NumPyArray | None
    options: dict[str, Any]


class Signature(NamedTuple):
    """What an operation makes of a `Case`: shapes of x, kernel and bias (None: takes none), and its options."""

    x: Shape
    kernel: Shape
    bias: Shape | None
    options: dict[str, Any]


def _plain(case: Case) -> Signature:
    return Signature((*case.batch, *case.sizes), case.window, None, case.options)


def _conv(case: Case) -> Signature:
    channels, outputs = case.groups * case.inputs, case.groups * case.outputs
    options = {**case.options, "groups": case.groups, "channels": case.channels}
    if case.channels == "last":
        x, kernel = (*case.batch, *case.sizes, channels), (*case.window, case.inputs, outputs)
    else:
        x, kernel = (*case.batch, channels, *case.sizes), (outputs, case.inputs, *case.window)
    return Signature(x, kernel, (outputs,), options)


def _depthwise(case: Case) -> Signature:
    channels, multiplier = case.groups * case.inputs, case.outputs
    options = {**case.options, "channels": case.channels}
    if case.channels == "last":
        x, kernel = (*case.batch, *case.sizes, channels), (*case.window, channels, multiplier)
    else:
        x, kernel = (*case.batch, channels, *case.sizes), (channels, multiplier, *case.window)
    return Signature(x, kernel, (channels * multiplier,), options)


def _conv_transpose(case: Case) -> Signature:
    """The transpose of the case's `conv`: from its output's shape back to its input's."""
    fits = fit(case.padding, case.sizes, case.window, case.stride, case.dilation)
    widths, out, rest = (tuple(column) for column in zip(*fits, strict=True))
    forward = _conv(case._replace(sizes=out))
    channels, outputs = case.groups * case.inputs, case.groups * case.outputs
    x = (*case.batch, *out, outputs) if case.channels == "last" else (*case.batch, outputs, *out)
    options = {**forward.options, "padding": widths, "output_padding": rest}
    del options["boundary"]
    return Signature(x, forward.kernel, (channels,), options)


#: A row for each operation that `problems` can draw.
SIGNATURES: dict[str, Callable[[Case], Signature]] = {
    "correlate": _plain,
    "convolve": _plain,
    "conv": _conv,
    "depthwise_conv": _depthwise,
    "conv_transpose": _conv_transpose,
}


def _hypothesis() -> Any:
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise ImportError("arrayconv.testing: strategies need hypothesis; pip install hypothesis") from error
    return strategies


def geometries(
    *, min_ndim: int = 1, max_ndim: int = 3, min_size: int = 0, boundaries: tuple[str, ...] = BOUNDARIES
) -> SearchStrategy[Case]:
    """Every kind of valid call: the kernel fits into the padded input, and a boundary has something to continue.

    Up to 4 spatial axes; sizes from ``min_size``; padding as a word, ints or pairs, also negative; strides,
    dilations and groups; either channel layout; a batch of none, one or many axes, also empty.
    """
    strategy: SearchStrategy[Case] = _hypothesis().composite(_draw_case)(min_ndim, max_ndim, min_size, boundaries)
    return strategy


def problems(
    op: str | Callable[..., Any] = "conv", *, dtype: str = "float32", finite: bool = True, **limits: Any
) -> SearchStrategy[Call]:
    """A geometry of `geometries` (``limits`` are its arguments) with arrays for ``op``, sometimes with a bias.

    Floats are small integers, so that sums are exact, or spread over magnitudes; with ``finite=False`` ``x`` also
    holds NaN and infinities. Integers are small or fill their dtype. The arrays may be contiguous, strided,
    reversed, in Fortran order or read-only. For bfloat16, which NumPy lacks, they are float32 with its values.
    """
    strategy: SearchStrategy[Call] = _hypothesis().composite(_draw_call)(operation_name(op), dtype, finite, limits)
    return strategy


def _draw_case(draw: DrawFn, min_ndim: int, max_ndim: int, min_size: int, boundaries: tuple[str, ...]) -> Case:
    st = _hypothesis()
    ndim = draw(st.integers(min_ndim, max_ndim))
    largest, widest, sparsest = LIMITS[ndim]
    window = draw(st.tuples(*[st.integers(1, widest)] * ndim))
    dilation = draw(_one_or_each(1, sparsest, ndim))
    stride = draw(_one_or_each(1, 3, ndim))
    boundary = draw(st.sampled_from(boundaries))
    words = WORDS if boundary != "constant" else ("valid", *WORDS)
    padding = draw(
        st.one_of(
            st.sampled_from(words),
            _one_or_each(-1, 3, ndim),
            st.tuples(*[st.tuples(st.integers(-2, 4), st.integers(-2, 4))] * ndim),
        )
    )
    least = [
        max(min_size if boundary == "constant" else 1, _least_size(entry, d * (k - 1) + 1))
        for entry, k, d in zip(each(padding, ndim), window, each(dilation, ndim), strict=True)
    ]
    sizes = draw(st.tuples(*[st.integers(n, max(n, largest)) for n in least]))
    batch = draw(st.sampled_from([(), (1,), (2,), (0,), (2, 1), (2, 3)]))
    groups, inputs, outputs = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    channels = draw(st.sampled_from(("first", "last")))
    return Case(batch, sizes, window, groups, inputs, outputs, channels, stride, dilation, padding, boundary)


def _one_or_each(low: int, high: int, ndim: int) -> SearchStrategy[int | Shape]:
    st = _hypothesis()
    strategy: SearchStrategy[int | Shape] = st.one_of(
        st.integers(low, high), st.tuples(*[st.integers(low, high)] * ndim)
    )
    return strategy


def _least_size(padding: Any, span: int) -> int:
    """The shortest axis that this padding makes long enough for a kernel that covers ``span``."""
    words = {"valid": span, "full": 2 - span, "same": 1, "same_lower": 1, "causal": 1}
    return words[padding] if isinstance(padding, str) else span - sum(each(padding, 2))


def _draw_call(draw: DrawFn, op: str, dtype: str, finite: bool, limits: dict[str, Any]) -> Call:
    st = _hypothesis()
    if op == "conv_transpose":
        limits = {**limits, "boundaries": ("constant",), "min_size": 1}
    signature = SIGNATURES[op](draw(geometries(**limits)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    wide = draw(st.booleans())
    x = _values(random, signature.x, dtype, wide)
    if not finite:
        x[random.random(x.shape) < 0.1] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    x = _lay_out(x, draw(st.sampled_from(LAYOUTS)))
    kernel = _lay_out(_values(random, signature.kernel, dtype, wide), draw(st.sampled_from(LAYOUTS)))
    with_bias = signature.bias is not None and draw(st.booleans())
    bias = _values(random, signature.bias, dtype, wide) if signature.bias and with_bias else None
    return Call(op, x, kernel, bias, signature.options)


def _values(random: np.random.Generator, shape: Shape, dtype: str, wide: bool) -> NumPyArray:
    """Small integers, or what fills the type; floats stay where products can't overflow."""
    if "complex" in dtype:
        part = "float32" if dtype == "complex64" else "float64"
        parts = _values(random, shape, part, wide), _values(random, shape, part, wide)
        return (parts[0] + 1j * parts[1]).astype(dtype)
    if "int" in dtype:
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if wide else (max(info.min, -5), 5)
        return random.integers(low, high, shape, dtype=dtype, endpoint=True)
    values: NumPyArray = random.integers(-5, 5, shape, endpoint=True).astype(np.float32)
    if wide:
        values = (random.standard_normal(shape) * 10.0 ** random.uniform(-2, 1, shape)).astype(np.float32)
    if dtype == "bfloat16":
        return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(dtype)


def _lay_out(values: NumPyArray, layout: str) -> NumPyArray:
    """The same values, lying differently in memory."""
    if layout == "fortran":
        return np.asfortranarray(values)
    if layout == "strided":
        spaced = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        spaced[..., ::2] = values
        return spaced[..., ::2]
    if layout == "reversed":
        return np.flip(np.ascontiguousarray(np.flip(values)))
    if layout == "read-only":
        values.flags.writeable = False
    return values
