"""The answers in float64, by a way that shares no code with arrayconv, and how far from them a float32 one may be."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from scipy import signal

import arrayconv as ac
from bench import natives
from bench.libraries import library
from bench.planned import promises_elementwise
from bench.workloads import Workload

Array = Any
NumPyArray = np.ndarray[Any, Any]

#: The largest error, relative to the largest number of the answer, of whatever is timed.
RELATIVE = 1e-4

#: Kinds for which arrayconv promises an error of each single number, that of `arrayconv.testing.error_bound`.
BOUNDED = ("filter", "tiny", "layer", "depthwise", "transposed")

#: Rate of the learner, times the greatest eigenvalue of the loss: small enough for the fit to take some steps.
RATE = 0.1


@dataclass(frozen=True)
class Reference:
    """The parts of an answer, and the error that arrayconv promises for each number of the first, if it does."""

    exact: tuple[NumPyArray, ...]
    promised: NumPyArray | None = None

    def check(self, answer: Any, *, is_own: bool = False) -> tuple[float, str]:
        """The largest error relative to the largest number, and what is wrong with the answer, or "".

        Only arrayconv's own answers are held to its promise: an FFT in float32, for one, doesn't keep it.
        """
        parts = answer if isinstance(answer, tuple | list) else (answer,)
        worst = 0.0
        for part, exact in zip(parts, self.exact, strict=True):
            values = np.asarray(part)
            if values.shape != exact.shape:
                return float("nan"), f"has shape {values.shape}, not {exact.shape}"
            error = np.abs(values - exact)
            relative = float(np.max(error) / np.max(np.abs(exact)))
            if not relative <= RELATIVE:  # NaN too
                return relative, f"is off by {relative:.2g} of the largest number"
            worst = max(worst, relative)
            if is_own and self.promised is not None and not np.all(error <= self.promised):
                return worst, f"is off by {np.max(error / self.promised):.2g} times the documented bound"
        return worst, ""


def make_reference(workload: Workload, arrays: list[NumPyArray]) -> Reference:
    """Computed once a workload."""
    wide = [array.astype(np.float64) for array in arrays]
    exact = tuple(np.asarray(part) for part in _exact(workload, wide))
    if workload.transform == "gradient" or workload.kind not in BOUNDED or not promises_elementwise():
        return Reference(exact)
    x, kernel = map(np.abs, wide)
    own = workload.own
    terms = ac.plan(own.op, *own.shapes, **own.options).program.geometry.terms
    (magnitude,) = _exact(workload, [x, kernel])
    bound = 2 * terms * np.finfo(np.float32).eps * magnitude + 8 * np.finfo(np.float64).eps * np.max(x) * np.sum(kernel)
    return Reference(exact, bound)


def _exact(workload: Workload, arrays: list[NumPyArray]) -> tuple[Any, ...]:
    if workload.kind == "learn":
        return (_descent(workload, *arrays),)
    if workload.transform == "gradient":
        (call,) = natives.KINDS[workload.kind]["torch"](workload).values()
        return tuple(library("torch").gradient(call)(*map(torch.from_numpy, arrays)))
    if workload.transform == "examples":
        return (np.stack([_forward(workload.own, *one) for one in zip(*arrays, strict=True)]),)
    return (_forward(workload, *arrays),)


def _forward(workload: Workload, *arrays: NumPyArray) -> NumPyArray:
    if workload.kind in ("filter", "tiny"):
        x, kernel = arrays
        y: NumPyArray = signal.correlate(x, kernel[(None,) * (x.ndim - kernel.ndim)], "valid", "fft")
        return y
    if workload.kind == "deform":
        (call,) = natives.scipy_deform(workload).values()
        return np.asarray(call(*arrays))
    (call,) = natives.KINDS[workload.kind]["torch"](workload).values()
    return np.asarray(call(*map(torch.from_numpy, arrays)))


# The learner: its steps on the normal equations, G k = b


def normal_equations(x: NumPyArray, y: NumPyArray, window: tuple[int, ...]) -> tuple[NumPyArray, NumPyArray]:
    """G, the products of all pairs of taps summed over the image, and b, those of each tap with y; in float64."""
    taps = prod(window)
    gram, right = np.zeros((taps, taps)), np.zeros(taps)
    for i in range(0, y.shape[0], 64):
        rows = y[i : i + 64].astype(np.float64)
        part = x[i : i + len(rows) + window[0] - 1].astype(np.float64)
        columns = np.lib.stride_tricks.sliding_window_view(part, window).reshape(-1, taps)
        gram += columns.T @ columns
        right += rows.ravel() @ columns
    return gram, right


def learner_arrays(workload: Workload) -> tuple[list[NumPyArray], float]:
    """An image, what an unknown kernel makes of it with some noise, where to start; and a stable rate."""
    x, noise, start = workload.arrays()
    truth = np.random.default_rng(1).standard_normal(start.shape)
    y = signal.correlate(x.astype(np.float64), truth, "valid", "fft") + 0.1 * noise
    gram, _ = normal_equations(x, y, start.shape)
    return [x, y.astype(np.float32), start], RATE / (2 * float(np.linalg.eigvalsh(gram)[-1]))


def _descent(workload: Workload, x: NumPyArray, y: NumPyArray, start: NumPyArray) -> NumPyArray:
    gram, right = normal_equations(x, y, start.shape)
    rate, kernel = RATE / (2 * np.linalg.eigvalsh(gram)[-1]), start.ravel()
    for _ in range(workload.steps):
        kernel = kernel - rate * 2 * (gram @ kernel - right)
    return kernel.reshape(start.shape)
