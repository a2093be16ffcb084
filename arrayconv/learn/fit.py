"""The fit: gradient steps from an initial kernel, in a Python loop, or in the library's own while it traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite, nan, prod
from typing import Any, NamedTuple

import numpy as np

from ..arguments import read_flag, read_int, read_ints, read_word
from ..backend import dtype_name
from ..kernels import read_number
from ..operations.correlate import correlate
from .losses import WEIGHTS
from .optimizers import sgd, tree_map
from .regression import MAGNITUDES, Params, Regression, bias_shape, check_bias, check_op, init_kernel, same_kind, settle
from .regression import regression as read_regression

Array = Any
OP = "learn_kernel"

#: NumPy would warn where a diverging fit overflows; its loss is looked at, and tells.
QUIETLY = np.errstate(over="ignore", invalid="ignore")

#: Half precision is learned in float32 and rounded at the end.
LEARNED_IN = {"float16": "float32", "bfloat16": "float32"}


class Fit(NamedTuple):
    """A learned kernel and its bias, the loss before every step, the loss at the end, the steps taken."""

    kernel: Array
    bias: Array | None
    losses: Array
    loss: Array
    steps: Any


class Descent(NamedTuple):
    """A regression, where to start, how to step, and who watches."""

    problem: Regression
    params: Params
    optimizer: Any
    steps: int
    tolerance: float | None = None
    progress: bool = False
    callback: Callable[[int, float, Array], Any] | None = None
    curvature: Callable[[], Array] | None = None

    @property
    def loss_dtype(self) -> Any:
        """The real type of the kernel's precision."""
        name = dtype_name(self.params.kernel.dtype)
        return self.problem.backend.dtype(MAGNITUDES.get(name, name))

    @QUIETLY
    def advance(self, params: Params, state: Any) -> tuple[Array, Params, Any]:
        """The loss of ``params``; parameters and optimiser state one update later."""
        backend = self.problem.backend

        def add(value: Array, update: Array) -> Array:
            return backend.xp.asarray(backend.cast(value + update, value.dtype))

        loss, grads = self.problem.loss_and_grad(params)
        updates, state = self.optimizer.update(grads, state, params)
        return backend.cast(loss, self.loss_dtype), tree_map(add, params, updates), state

    @QUIETLY
    def final_loss(self, params: Params) -> Array:
        """The loss of the parameters returned."""
        backend = self.problem.backend
        loss, _ = self.problem.loss(self.problem.predict(params), self.problem.y)
        return backend.cast(backend.xp.asarray(loss), self.loss_dtype)

    def check(self, loss: float, step: int) -> None:
        """Raises where ``loss``, that before update ``step``, is not finite."""
        if isfinite(loss):
            return
        if step == 1:
            raise ValueError(
                f"{OP}: loss is {loss} at step 1, before any update; x, y or init holds values that are not finite, "
                f"or too large for their dtype: replace or scale them"
            )
        where = f"at step {step}" if step <= self.steps else f"after step {self.steps}"
        if self.curvature is None:
            raise ValueError(
                f"{OP}: loss is {loss} {where}, the steps are too large; pass an optimizer of smaller rate"
            )
        raise ValueError(
            f"{OP}: loss is {loss} {where}, the steps are too large; the largest stable rate of gradient descent for "
            f"this data is {2 / float(self.curvature()):.3g}: pass a smaller one, or optimizer=None, which finds one"
        )


def stalled(previous: Any, loss: Any, tolerance: float) -> Any:
    """Whether the last step changed the loss by no more than ``tolerance`` of it."""
    return abs(previous - loss) <= tolerance * previous


@contextmanager
def _bar(job: Descent) -> Iterator[Callable[[float], None]]:
    """tqdm's progress bar, or nothing: a function to call with the loss of every step."""
    if not job.progress:
        yield lambda loss: None
        return
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(
            f"{OP}: progress=True needs tqdm; run `pip install tqdm` or `pip install arrayconv[cli]`"
        ) from error
    with tqdm(total=job.steps, desc=OP, unit="step") as bar:

        def show(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
            bar.update()

        yield show


def _python_loop(job: Descent) -> tuple[Params, Array, Any]:
    """Step by step, each loss looked at; a fit that is being traced goes to the library's loop."""
    backend, params, state = job.problem.backend, job.params, job.optimizer.init(job.params)
    losses: list[float] = []
    with _bar(job) as show:
        for step in range(1, job.steps + 1):
            value, *ahead = job.advance(params, state)
            if any(map(backend.is_traced, (value, *ahead[0]))):
                return _library_loop(job)
            loss = float(value)
            job.check(loss, step)
            if job.tolerance is not None and losses and stalled(losses[-1], loss, job.tolerance):
                break
            losses.append(loss)
            if job.callback is not None:
                job.callback(step, loss, params.kernel)
            show(loss)
            params, state = tree_map(lambda leaf: settle(backend, leaf), tuple(ahead))
    rest = [nan] * (job.steps - len(losses))
    history = backend.from_numpy(np.asarray(losses + rest), params.kernel)
    return params, backend.cast(history, job.loss_dtype), len(losses)


def _library_loop(job: Descent) -> tuple[Params, Array, Any]:
    """All steps as one operation of the library's; a fit that has stalled stands still to the end."""
    xp, scan = job.problem.backend.xp, job.problem.backend.scan
    if scan is None or job.progress or job.callback is not None:
        raise ValueError(
            f"{OP}: progress and callback need values, which a transformed function has not; "
            f"pass progress=False and callback=None under jit, vmap and grad"
        )

    def body(carry: Any, _: None) -> Any:
        params, state, previous, done = carry
        loss, moved, state = job.advance(params, state)
        if job.tolerance is not None:
            done = done | stalled(previous, loss, job.tolerance)
            moved = tree_map(lambda old, new: xp.where(done, old, new), params, moved)
        return (moved, state, loss, done), (xp.where(done, nan, loss), done)

    start = (job.params, job.optimizer.init(job.params), xp.asarray(nan, dtype=job.loss_dtype), xp.asarray(False))
    (params, *_), (losses, done) = scan(body, start, None, length=job.steps)
    return params, losses, xp.sum(~done)


def descend(job: Descent, dtype: Any) -> Fit:
    """A forward and a backward convolution each step; the parameters returned are of ``dtype``."""
    backend = job.problem.backend
    params, losses, steps = _python_loop(job)
    params = tree_map(lambda part: backend.cast(part, dtype), params)
    loss = job.final_loss(params)
    if not backend.is_traced(loss):
        job.check(float(loss), job.steps + 1)
    return Fit(params.kernel, params.bias, losses, loss, steps)


#: How the steps are made; "auto" takes the first.
METHODS: dict[str, Callable[[Descent, Any], Fit]] = {"steps": descend}


def _read_init(init: Any, kernel_shape: tuple[int, ...], bias: bool) -> Params:
    """What the caller gave to start from; None stands for what is left to the seed."""
    if isinstance(init, tuple | list) and len(init) != 2:
        raise TypeError(f"{OP}: init must be a kernel or a pair (kernel, bias), got {len(init)} entries")
    params = Params(*init) if isinstance(init, tuple | list) else Params(init)
    shape = getattr(params.kernel, "shape", kernel_shape)
    if tuple(shape) != kernel_shape:
        raise ValueError(
            f"{OP}: init has a kernel of shape {tuple(shape)}, kernel_shape is {kernel_shape}; make them equal"
        )
    if params.bias is not None and not bias:
        raise ValueError(f"{OP}: init has a bias, bias=False would drop it; pass bias=True")
    return params


def _read_optimizer(optimizer: Any) -> Any:
    if optimizer is None or all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        return optimizer
    raise TypeError(
        f"{OP}: optimizer must have the functions init and update, got {type(optimizer).__name__}; "
        f"pass ac.sgd(rate), ac.adam(rate), an optimiser of optax, or None for a safe rate"
    )


def learn_kernel(
    x: Array,
    y: Array,
    kernel_shape: tuple[int, ...],
    *,
    op: Callable[..., Array] = correlate,
    bias: bool = False,
    init: Any = None,
    seed: int = 0,
    loss: Any = "sum",
    optimizer: Any = None,
    steps: int = 100,
    tolerance: float | None = None,
    progress: bool = False,
    callback: Callable[[int, float, Array], Any] | None = None,
    method: str = "auto",
    **op_options: Any,
) -> Fit:
    """The kernel with which ``op(x, kernel) + bias`` comes close to ``y``, by steps of gradient descent.

    Args:
        x: floating array; a NumPy array beside another library's y is adopted, and the other way round.
        y: what ``op`` should give, of the shape that it gives.
        kernel_shape: shape of the kernel that ``op`` takes.
        op: `correlate`, `convolve`, `conv` or `conv_transpose`.
        bias: learn one number an output channel too, for `correlate` and `convolve` one of shape ``()``; starts at 0.
        init: the kernel to start from, or a pair ``(kernel, bias)``; None takes ``init_kernel`` with ``seed``.
        seed: an int that stands for one initial kernel, the same numbers on every library.
        loss: ``"sum"`` of the squared errors, their ``"mean"``, or ``f(y_hat, y) -> (value, gradient)``.
        optimizer: `sgd`, `adam`, or one of optax for JAX's arrays. None is gradient descent by ``1 / L``, with L the
            greatest eigenvalue of the loss's Hessian (for ``"sum"`` twice that of the data's Gram matrix), by 20 rounds
            of power iteration: the loss falls at every step. Steps above ``2 / L`` diverge.
        steps: updates to make; 0 returns the start.
        tolerance: stop before an update where the last one changed the loss by no more than ``tolerance`` times the
            loss that it had found.
        progress: show tqdm's bar.
        callback: called as ``callback(step, loss, kernel)`` before update ``step``, with the loss of that kernel.
        method: ``"steps"`` or ``"auto"``.
        **op_options: ``padding``, ``stride`` and whatever else ``op`` takes.

    Returns:
        `Fit`: ``kernel`` and ``bias`` (or None) of ``result_type(x, y)``; ``losses[i]``, the loss before update
        ``i + 1``, NaN where ``tolerance`` stopped; ``loss`` of the kernel returned; ``steps``, the updates made. Losses
        have the real type of the kernel's precision, float32 for half types, which are learned in float32.

    In JAX the fit can be transformed as a whole (``steps`` is then an array), and PyTorch records no graph.

    Raises:
        TypeError: an ``op`` not listed, integer arrays, an optimiser that is none.
        ValueError: shapes that don't fit, unknown words, ``optimizer=None`` with a function as loss (its curvature is
            unknown); and a loss that is not finite, with its step and the largest stable rate. Where the fit is
            traced nothing raises: ``losses`` shows it.

    >>> import numpy as np, arrayconv as ac
    >>> x = np.ones((6, 8))
    >>> x[:, 2:6] = 0
    >>> fit = ac.learn_kernel(x, ac.corr2d(x, ac.kernels.edges()), (1, 2), steps=20, optimizer=ac.sgd(3e-2))
    >>> fit.kernel.shape, fit.losses.shape, bool(fit.loss < 0.01)
    ((1, 2), (20,), True)
    """
    check_op(OP, op)
    steps = read_int(OP, "steps", steps, 0)
    method = read_word(OP, "method", method, ("auto", *METHODS))
    shape = read_ints(OP, "kernel_shape", kernel_shape, 1)
    given = _read_init(init, shape, read_flag(OP, "bias", bias))
    problem, given = read_regression(OP, op, x, y, given, loss, op_options)
    problem, params, dtype = _start(problem, given, shape, bias, seed)
    if callback is not None and not callable(callback):
        raise TypeError(f"{OP}: callback must be a function of (step, loss, kernel), got {callback!r}")
    curvature = _curvature(problem, params, loss)
    job = Descent(
        problem,
        params,
        _read_optimizer(optimizer) or _safe_descent(problem, curvature),
        steps,
        None if tolerance is None else read_number(OP, "tolerance", tolerance, minimum=0),
        read_flag(OP, "progress", progress),
        callback,
        curvature,
    )
    return METHODS["steps" if method == "auto" else method](job, dtype)


def _start(
    problem: Regression, given: Params, shape: tuple[int, ...], bias: bool, seed: int
) -> tuple[Regression, Params, Any]:
    """Data and initial parameters in the type that is learned in, free of graphs; and the type to return."""
    backend = problem.backend
    dtype = backend.promote(problem.x, problem.y)
    name = dtype_name(dtype)
    inner = backend.dtype(LEARNED_IN.get(name, name))

    def take(array: Array) -> Array:
        return backend.cast(backend.detach(array), inner)

    problem = problem._replace(x=take(problem.x), y=take(problem.y))
    kernel, start = given
    if kernel is None:
        kernel = init_kernel(shape, like=problem.x, seed=seed)
    if bias and start is None:
        zeros = bias_shape(problem.op, shape, problem.options)
        start = backend.xp.zeros(zeros, dtype=inner, device=backend.device(problem.x))
    params = Params(kernel, start)
    check_bias(OP, problem.op, params, problem.options)
    for part in params:
        if part is not None and not same_kind(part, problem.x):
            raise TypeError(f"{OP}: init has dtype {dtype_name(part.dtype)}, x and y are real; cast x or y to complex")
    return problem, tree_map(take, params), dtype


def _curvature(problem: Regression, params: Params, loss: Any) -> Callable[[], Array] | None:
    """How to find the greatest eigenvalue of a squared loss's Hessian, ``2 * weight * A'A``."""
    if callable(loss):
        return None
    weight = WEIGHTS[loss](prod(problem.y.shape))
    ones = problem.backend.xp.ones_like

    @QUIETLY
    def curvature() -> Array:
        start = Params(init_kernel(tuple(params.kernel.shape), like=params.kernel), tree_map(ones, params.bias))
        return 2 * weight * problem.gram_norm(start)

    return curvature


def _safe_descent(problem: Regression, curvature: Callable[[], Array] | None) -> Any:
    if curvature is None:
        raise ValueError(
            f"{OP}: optimizer=None knows no safe rate where loss is a function; pass ac.sgd(rate), for example"
        )
    xp, steepest = problem.backend.xp, curvature()
    # Data that are all zero have no curvature, and gradients of zero.
    flat = steepest <= 0
    return sgd(xp.where(flat, xp.zeros_like(steepest), 1 / xp.where(flat, xp.ones_like(steepest), steepest)))
