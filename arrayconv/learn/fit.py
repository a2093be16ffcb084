"""The fit: gradient steps from an initial kernel, on the data or on the normal equations that stand for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..arguments import read_flag, read_int, read_ints, read_word
from ..backend import Backend
from ..gather import gather_arrays
from ..kernels import read_number
from ..operations.correlate import correlate
from ..operations.table import OPERATIONS
from .descent import Descent, Fit, descend, lifted
from .gram import Gram, check_gram
from .losses import WEIGHTS
from .methods import METHODS, Start, cheapest, local_params
from .optimizers import sgd, split_optimizer
from .quadratic import quadratic
from .regression import Params, by_numpy, check_op, first_params, learnable, regression

Array = Any
OP = "learn_kernel"


def read_init(caller: str, init: Any, kernel_shape: tuple[int, ...], bias: bool) -> Params:
    """What the caller gave to start from; None stands for what is left to the seed."""
    if isinstance(init, tuple | list) and len(init) != 2:
        raise TypeError(f"{caller}: init must be a kernel or a pair (kernel, bias), got {len(init)} entries")
    params = Params(*init) if isinstance(init, tuple | list) else Params(init)
    shape = getattr(params.kernel, "shape", kernel_shape)
    if tuple(shape) != kernel_shape:
        raise ValueError(
            f"{caller}: init has a kernel of shape {tuple(shape)}, kernel_shape is {kernel_shape}; make them equal"
        )
    if params.bias is not None and not bias:
        raise ValueError(f"{caller}: init has a bias, bias=False would drop it; pass bias=True")
    return params


class Orders(NamedTuple):
    """How to step, when to stop, and who watches."""

    optimizer: Any
    steps: int
    tolerance: float | None
    progress: bool
    callback: Callable[[int, float, Array], Any] | None


def read_orders(caller: str, optimizer: Any, steps: Any, tolerance: Any, progress: Any, callback: Any) -> Orders:
    """The arguments that both fits share."""
    if optimizer is not None and not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            f"{caller}: optimizer must have the functions init and update, got {type(optimizer).__name__}; "
            f"pass ac.sgd(rate), ac.adam(rate), an optimiser of optax, or None for a safe rate"
        )
    if callback is not None and not callable(callback):
        raise TypeError(f"{caller}: callback must be a function of (step, loss, kernel), got {callback!r}")
    return Orders(
        optimizer,
        read_int(caller, "steps", steps, 0),
        None if tolerance is None else read_number(caller, "tolerance", tolerance, minimum=0),
        read_flag(caller, "progress", progress),
        callback,
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
            greatest eigenvalue of the loss's Hessian (for ``"sum"`` twice that of the data's Gram matrix; by
            ``"steps"`` from 20 rounds of power iteration): the loss falls at every step. Steps above ``2 / L`` diverge.
        steps: updates to make; 0 returns the start.
        tolerance: stop before an update where the last one changed the loss by no more than ``tolerance`` times the
            loss that it had found.
        progress: show tqdm's bar.
        callback: called as ``callback(step, loss, kernel)`` before update ``step``, with the loss of that kernel.
        method: ``"steps"`` makes a forward and a backward convolution each step. ``"gram"`` gathers the normal
            equations of a squared loss in one pass (`gram`: by products of windows, or long ones by transforms), then a
            step costs the square of the kernel's size; kernels and losses are those of ``"steps"`` up to rounding.
            ``"auto"`` takes what is estimated to cost less.
        **op_options: ``padding``, ``stride`` and whatever else ``op`` takes.

    Returns:
        `Fit`: ``kernel`` and ``bias`` (or None) of ``result_type(x, y)``; ``losses[i]``, the loss before update
        ``i + 1``, NaN where ``tolerance`` stopped; ``loss`` of the kernel returned; ``steps``, the updates made. Losses
        have the real type of the kernel's precision, float32 for half types, which are learned in float32.

    In JAX the fit can be transformed as a whole (``steps`` is then an array), and PyTorch records no graph. An eager
    fit by ``"gram"`` with `sgd` or `adam` of arrays in the CPU's memory is made by NumPy, without a copy; of others of
    JAX it is compiled: once for a kernel's shape, a number of steps and one set of options; not with ``progress`` or
    ``callback``.

    Raises:
        TypeError: an ``op`` not listed, integer arrays, an optimiser that is none.
        ValueError: shapes that don't fit, unknown words, ``optimizer=None`` with a function as loss (its curvature is
            unknown) or ``method="gram"`` with one; and a loss that is not finite, with its step and the largest stable
            rate. Where the fit is traced nothing raises: ``losses`` shows it.

    >>> import numpy as np, arrayconv as ac
    >>> x = np.ones((6, 8))
    >>> x[:, 2:6] = 0
    >>> fit = ac.learn_kernel(x, ac.corr2d(x, ac.kernels.edges()), (1, 2), steps=20, optimizer=ac.sgd(3e-2))
    >>> fit.kernel.shape, fit.losses.shape, bool(fit.loss < 0.01)
    ((1, 2), (20,), True)

    Huber's loss, the square of a small error and the magnitude of a large one, learns beside wrong data:

    >>> def huber(y_hat, y):
    ...     error = y_hat - y
    ...     gradient = np.clip(error, -1, 1)
    ...     return np.sum(gradient * (error - gradient / 2)), gradient
    >>> y = ac.corr2d(x, ac.kernels.edges())
    >>> y[0, 1] = 1000
    >>> ac.learn_kernel(x, y, (1, 2), loss=huber, optimizer=ac.sgd(3e-2), steps=200).kernel.round(1)
    array([[ 1.1, -1.1]])
    """
    check_op(OP, op)
    orders = read_orders(OP, optimizer, steps, tolerance, progress, callback)
    method = read_word(OP, "method", method, ("auto", *METHODS))
    shape = read_ints(OP, "kernel_shape", kernel_shape, 1)
    given = read_init(OP, init, shape, read_flag(OP, "bias", bias))
    problem, given = regression(OP, op, x, y, given, loss, op_options)
    problem, dtype = learnable(problem)
    params = first_params(OP, given, problem.x, op, shape, op_options, bias, seed)
    if method == "auto":
        method = cheapest(problem, params, loss, dtype, orders.steps, optimizer is None)
    like = problem.x
    if method == "gram" and is_known(optimizer, problem.backend):
        problem, params, dtype = by_numpy(problem, params, dtype)
    return _run(OP, METHODS[method](problem, params, loss, dtype), orders, dtype, like)


def is_known(optimizer: Any, backend: Backend) -> bool:
    """Whether its steps may be made in another library: it is ours, of numbers that are values."""
    split = None if optimizer is None else split_optimizer(optimizer)
    return optimizer is None or (split is not None and not any(map(backend.is_traced, split[1])))


def learn_from(
    gram: Gram,
    *,
    init: Any = None,
    seed: int = 0,
    loss: str = "sum",
    optimizer: Any = None,
    steps: int = 100,
    tolerance: float | None = None,
    progress: bool = False,
    callback: Callable[[int, float, Array], Any] | None = None,
) -> Fit:
    """`learn_kernel` from the normal equations of its data: no step touches these.

    Args:
        gram: from `gram`, or a sum of such.
        init, seed, optimizer, steps, tolerance, progress, callback: as in `learn_kernel`.
        loss: ``"sum"`` or ``"mean"``.

    Returns:
        `Fit`, as `learn_kernel`. Its losses are differences of the sums in ``gram``, so that none is known better than
        to some ``eps |y|^2``, with the eps of ``gram.matrix``; gradients are as good as those of convolutions.

    Raises:
        TypeError: what is no `Gram`, or an optimiser that is none.
        ValueError: an ``init`` of another shape, an unknown loss, and a loss that is not finite, as in `learn_kernel`.

    >>> import numpy as np, arrayconv as ac
    >>> x = np.sin(np.arange(100.0) ** 2)
    >>> gram = ac.gram(ac.correlate, x, ac.correlate(x, ac.kernels.edges()[0]), (2,))
    >>> ac.learn_from(gram, steps=50).kernel.round(3)
    array([ 1., -1.])
    """
    caller = "learn_from"
    check_gram(caller, gram)
    orders = read_orders(caller, optimizer, steps, tolerance, progress, callback)
    design, loss = gram.design, read_word(caller, "loss", loss, WEIGHTS)
    given = read_init(caller, init, design.kernel_shape, design.bias)
    names, arrays = ("gram", "kernel", "bias"), (gram.matrix, *given)
    backend, (matrix, *gathered) = gather_arrays(caller, names, arrays, ("kernel", "bias"))
    like = backend.cast(backend.detach(matrix), backend.dtype(design.learned_in))
    op, options = OPERATIONS[design.op].function, design.options._asdict()
    params = first_params(caller, Params(*gathered), like, op, design.kernel_shape, options, design.bias, seed)
    own = quadratic(gram, loss)
    start = Start(own, local_params(params), own.curvature)
    return _run(caller, start, orders, backend.dtype(design.dtype), like)


def _run(caller: str, start: Start, orders: Orders, dtype: Any, like: Array) -> Fit:
    """The fit, its arrays in the library of ``like`` also where the steps were made on arrays in memory."""
    own, watch = start.problem.backend, orders.callback
    if watch is not None:
        orders = orders._replace(callback=lambda step, loss, kernel: watch(step, loss, lifted(kernel, own, like)))
    orders = orders._replace(optimizer=orders.optimizer or _safe_descent(caller, own, start.curvature))
    job = Descent(caller, start.problem, start.params, *orders, curvature=start.curvature)
    fit: Fit = lifted(descend(job, dtype), own, like)
    return fit


def _safe_descent(caller: str, backend: Backend, curvature: Callable[[], Array] | None) -> Any:
    if curvature is None:
        raise ValueError(
            f"{caller}: optimizer=None knows no safe rate where loss is a function; pass ac.sgd(rate), for example"
        )
    xp, steepest = backend.xp, curvature()
    # Data that are all zero have no curvature, and gradients of zero.
    flat = steepest <= 0
    return sgd(xp.where(flat, xp.zeros_like(steepest), 1 / xp.where(flat, xp.ones_like(steepest), steepest)))
