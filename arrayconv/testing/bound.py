"""The documented error bound, and the assertion that a result keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arguments import read_word
from ..backend import dtype_name
from ..program import ACCURACIES, C2, NORMWISE, C
from .oracle import OPERATIONS, Array, NumPyArray, operation_name, reference, to_numpy, wrap_integers

#: Types that are summed in another type.
ACCUMULATORS = {"float16": "float32", "bfloat16": "float32"}


class Format(NamedTuple):
    """A binary floating type: bits of precision and largest exponent."""

    precision: int
    exponent: int

    @property
    def eps(self) -> float:
        return 2.0 ** (1 - self.precision)

    @property
    def largest(self) -> float:
        return (2 - self.eps) * 2.0**self.exponent

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.exponent)


#: Complex types have the format of their parts.
FORMATS = {
    "float16": Format(11, 15),
    "bfloat16": Format(8, 127),
    "float32": Format(24, 127),
    "float64": Format(53, 1023),
    "complex64": Format(24, 127),
    "complex128": Format(53, 1023),
}


def error_bound(
    x: Array,
    kernel: Array,
    accumulator: str,
    bias: Array = None,
    *,
    op: str | Callable[..., Any] = "conv",
    c: float = C,
    c2: float = C2,
    accuracy: str = "elementwise",
    **options: Any,
) -> NumPyArray:
    """The error that an ``accuracy`` allows each output, before the result is rounded to its dtype. Elementwise::

        c * K * eps(accumulator) * (|x| * |kernel|) + c2 * eps(float64) * max|x| * sum|kernel|

    where ``*`` is ``op`` on absolute values and K the products summed into one output; a bias is one term more.
    Normwise, with no regard to an output's own terms, ``NORMWISE * K * eps(accumulator) * (max|x| * sum|kernel| +
    max|bias|)``: a bound for the worst signs, some hundred times what is usual. What is not finite in ``x`` counts as
    zero, and K times the accumulator's smallest normal number is added for libraries that flush subnormals. float64,
    in the shape of the output.

    >>> import numpy as np
    >>> bound = error_bound(np.ones((1, 4)), np.ones((1, 1, 2)), "float32")
    >>> bound.shape, bool(np.all(bound < 1e-6))
    ((1, 3), True)
    """
    x, kernel, bias = (None if array is None else _absolute(array) for array in (x, kernel, bias))
    rows = OPERATIONS[operation_name(op)].rows(kernel, **options)
    terms = rows.shape[1] + (bias is not None)
    x = np.where(np.isfinite(x), x, 0.0)
    magnitude = reference(op, x, kernel, bias, **options)
    form = FORMATS[accumulator]
    largest = np.max(x, initial=0.0) * np.max(rows.sum(axis=1), initial=0.0)
    bound: NumPyArray = terms * (c * form.eps * magnitude + form.tiny) + c2 * FORMATS["float64"].eps * largest
    if read_word("error_bound", "accuracy", accuracy, ACCURACIES) == "normwise":
        scale = largest + (0.0 if bias is None else np.max(bias, initial=0.0))
        bound = bound + NORMWISE * terms * (form.eps * scale + form.tiny)
    return bound


def _absolute(array: Array) -> NumPyArray:
    """Magnitudes in float64: widened before ``abs``, which overflows at the least integer."""
    values = to_numpy(array)
    return np.abs(values.astype(np.complex128 if values.dtype.kind == "c" else np.float64))


def assert_within_bound(
    y: Array,
    x: Array,
    kernel: Array,
    bias: Array = None,
    *,
    op: str | Callable[..., Any] = "conv",
    c: float = C,
    c2: float = C2,
    accuracy: str = "elementwise",
    **options: Any,
) -> None:
    """Raise AssertionError unless ``y`` is ``op(x, kernel, bias, **options)`` as documented.

    - integers: bit-equal to the exact sum, wrapped to ``y``'s dtype;
    - floats: within `error_bound`, plus one rounding to ``y``'s dtype; larger than that dtype's largest number
      may be infinite;
    - where a window covers what is not finite in ``x``, the output is not finite; everywhere else it is.

    The arrays may be of any libraries. The error names the first wrong position and its figures.

    >>> import numpy as np
    >>> assert_within_bound(np.array([3, 5]), np.array([1, 2, 3]), np.array([1, 1]), op="correlate")
    >>> assert_within_bound(np.array([3, 6]), np.array([1, 2, 3]), np.array([1, 1]), op="correlate")
    Traceback (most recent call last):
    AssertionError: correlate: 1 of 2 outputs are wrong, first at (1,): got 6, expected 5, off by 1 of 0 allowed
    """
    got, exact, name = to_numpy(y), reference(op, x, kernel, bias, **options), dtype_name(y.dtype)
    if got.shape != exact.shape:
        raise AssertionError(f"{operation_name(op)}: shape {got.shape}, expected {exact.shape}")
    if "int" in name:
        exact = wrap_integers(exact, name)
        error = abs(got.astype(object) - exact.astype(object))
        allowed: NumPyArray = np.zeros(got.shape, np.int64)
        right = got == exact
    else:
        form = FORMATS[name]
        exact = exact.astype(np.complex128 if "complex" in name else np.float64)
        with np.errstate(all="ignore"):
            error = np.abs(got - exact)
            promise: dict[str, Any] = {"op": op, "c": c, "c2": c2, "accuracy": accuracy}
            allowed = error_bound(x, kernel, ACCUMULATORS.get(name, name), bias, **promise, **options)
            allowed = allowed + form.eps * (np.abs(exact) + form.tiny)
            right = _is_right(got, exact, error, allowed, form)
    if not np.all(right):
        at = tuple(int(i) for i in np.argwhere(~right)[0])
        raise AssertionError(
            f"{operation_name(op)}: {np.sum(~right)} of {right.size} outputs are wrong, first at {at}: "
            f"got {got[at]}, expected {exact[at]}, off by {error[at]} of {allowed[at]} allowed"
        )


def _is_right(
    got: NumPyArray, exact: NumPyArray, error: NumPyArray, allowed: NumPyArray, form: Format
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Close where both are finite, not finite where the oracle isn't, either where the dtype can't hold it."""
    finite = np.isfinite(exact)
    overflows = finite & (np.abs(exact) + allowed > form.largest)
    return np.where(finite, (error <= allowed) | (overflows & ~np.isfinite(got)), ~np.isfinite(got))
