"""Steps of gradient descent on any loss of a kernel: in a Python loop, or in the library's own while it traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite, nan
from numbers import Real
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..backend import Backend, dtype_name, get_backend
from .optimizers import Optimizer, split_optimizer, tree_map
from .regression import MAGNITUDES, Params, settle

Array = Any

#: NumPy would warn where a diverging fit overflows; its loss is looked at, and tells.
QUIETLY = np.errstate(over="ignore", invalid="ignore")


class Fit(NamedTuple):
    """A learned kernel and its bias, the loss before every step, the loss at the end, the steps taken."""

    kernel: Array
    bias: Array | None
    losses: Array
    loss: Array
    steps: Any


class Objective(Protocol):
    """A loss of a kernel and bias."""

    @property
    def backend(self) -> Backend:
        """Whose arrays they are."""

    def loss_and_grad(self, params: Params) -> tuple[Array, Params]:
        """The loss, and the direction in which it grows fastest."""

    def value(self, params: Params) -> Array:
        """The loss."""

    def split(self) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
        """Its fields: first those that hash, then arrays. None where a fit takes less time than to compile it."""


class Descent(NamedTuple):
    """An objective, where to start, how to step, and who watches."""

    caller: str
    problem: Objective
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
        return self.problem.backend.cast(self.problem.value(params), self.loss_dtype)

    def check(self, loss: float, step: int) -> None:
        """Raises where ``loss``, that before update ``step``, is not finite."""
        if isfinite(loss):
            return
        if step == 1:
            raise ValueError(
                f"{self.caller}: loss is {loss} at step 1, before any update; x, y or init holds values that are not "
                f"finite, or too large for their dtype: replace or scale them"
            )
        where = f"at step {step}" if step <= self.steps else f"after step {self.steps}"
        if self.curvature is None:
            raise ValueError(
                f"{self.caller}: loss is {loss} {where}, the steps are too large; pass an optimizer of smaller rate"
            )
        raise ValueError(
            f"{self.caller}: loss is {loss} {where}, the steps are too large; the largest stable rate of gradient "
            f"descent for this data is {2 / float(self.curvature()):.3g}: pass a smaller one, or optimizer=None, which "
            f"finds one"
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
            f"{job.caller}: progress=True needs tqdm; run `pip install tqdm` or `pip install arrayconv[cli]`"
        ) from error
    with tqdm(total=job.steps, desc=job.caller, unit="step") as bar:

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
            f"{job.caller}: progress and callback need values, which a transformed function has not; "
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


class Known(NamedTuple):
    """What a compiled fit does not take as an array."""

    caller: str
    objective: Callable[..., Objective]
    fields: tuple[Any, ...]
    optimizer: tuple[Any, Any]
    steps: int
    tolerance: float | None


def _compiled_loop(job: Descent) -> tuple[Params, Array, Any] | None:
    """All steps as one compiled operation, which later fits of such data share; None where that can't be.

    An optimiser of another's making may look at values, which none can while it is compiled.
    """
    backend, own, optimizer = job.problem.backend, job.problem.split(), split_optimizer(job.optimizer)
    if backend.compiled is None or own is None or optimizer is None or job.progress or job.callback is not None:
        return None
    known = Known(job.caller, type(job.problem), own[0], optimizer[0], job.steps, job.tolerance)
    arrays = own[1], optimizer[1], job.params
    if any(map(backend.is_traced, (*own[1], *optimizer[1], *job.params))):
        return None
    params, losses, steps = backend.compiled(_run_known, known, arrays)
    if backend.is_traced(losses):  # by a transformation of a function that has the data in its closure
        return params, losses, steps
    found = backend.to_numpy(losses)[: int(steps)]
    for step in np.flatnonzero(~np.isfinite(found))[:1]:
        job.check(float(found[step]), int(step) + 1)
    return params, losses, int(steps)


def _run_known(known: Known, arrays: Any) -> tuple[Params, Array, Any]:
    fields, numbers, params = arrays
    init, update = known.optimizer
    problem, optimizer = known.objective(*known.fields, *fields), Optimizer(init, partial(update, *numbers))
    return _library_loop(Descent(known.caller, problem, params, optimizer, known.steps, known.tolerance))


def _with_weak_numbers(job: Descent) -> Descent:
    """The job with the optimiser's numbers of no wider type than the parameters: a loop's state must keep its type.

    Arrays become floats, which widen nothing; those that are traced are cast.
    """
    backend, split = job.problem.backend, split_optimizer(job.optimizer)
    if split is None:
        return job

    def weaken(number: Any) -> Any:
        if backend.is_traced(number):
            return backend.cast(number, job.loss_dtype)
        return float(number if isinstance(number, Real) else get_backend(number).to_numpy(number))

    (init, update), numbers = split
    return job._replace(optimizer=Optimizer(init, partial(update, *map(weaken, numbers))))


def descend(job: Descent, dtype: Any) -> Fit:
    """All steps; the parameters returned are of ``dtype``."""
    job, backend = _with_weak_numbers(job), job.problem.backend
    params, losses, steps = _compiled_loop(job) or _python_loop(job)
    params = tree_map(lambda part: backend.cast(part, dtype), params)
    loss = job.final_loss(params)
    if not backend.is_traced(loss):
        job.check(float(loss), job.steps + 1)
    return Fit(params.kernel, params.bias, losses, loss, steps)


def lifted(tree: Any, backend: Backend, like: Array) -> Any:
    """Arrays that were computed in memory, by ``backend``, in the library of ``like``."""
    home = get_backend(like)

    def lift(leaf: Any) -> Any:
        return home.from_numpy(backend.to_numpy(leaf), like) if hasattr(leaf, "dtype") else leaf

    return tree if home is backend else tree_map(lift, tree)
