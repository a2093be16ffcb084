"""How the steps of a fit see the data: by convolutions, each step anew, or by their normal equations."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from ..backend import dtype_name, get_backend
from .descent import QUIETLY, Objective
from .gram import moments_of, read_design
from .losses import WEIGHTS
from .moments import COPY
from .optimizers import tree_map
from .quadratic import normal_equations
from .regression import Params, Regression, init_kernel
from .sums import total_work

Array = Any


class Start(NamedTuple):
    """A loss, the parameters to start from in the library of the loss, and how to find its curvature."""

    problem: Objective
    params: Params
    curvature: Callable[[], Array] | None


def by_steps(problem: Regression, params: Params, loss: Any, dtype: Any) -> Start:
    """The data themselves; the greatest eigenvalue of a squared loss's Hessian by power iteration."""
    if callable(loss):
        return Start(problem, params, None)
    weight = WEIGHTS[loss](max(1, prod(problem.y.shape)))
    ones = problem.backend.xp.ones_like

    @QUIETLY
    def curvature() -> Array:
        start = Params(init_kernel(tuple(params.kernel.shape), like=params.kernel), tree_map(ones, params.bias))
        return 2 * weight * problem.gram_norm(start)

    return Start(problem, params, curvature)


def by_gram(problem: Regression, params: Params, loss: Any, dtype: Any) -> Start:
    """The normal equations, of lazy arrays in memory."""
    if callable(loss):
        raise ValueError(
            f"{problem.caller}: method='gram' serves the losses {' and '.join(map(repr, WEIGHTS))}, loss is a "
            f"function, which need not be quadratic in the kernel; pass method='steps'"
        )
    design, reading = read_design(problem, tuple(params.kernel.shape), params.bias is not None, dtype)
    own = normal_equations(problem, design, reading, loss)
    return Start(own, local_params(params), own.curvature)


#: How the steps are made, for a problem, initial parameters, the loss and the dtype to return.
METHODS: dict[str, Callable[[Regression, Params, Any, Any], Start]] = {"steps": by_steps, "gram": by_gram}


def local_params(params: Params) -> Params:
    """Parameters in memory."""
    parts = [part for part in params if part is not None]
    return Params(*get_backend(params.kernel).local(parts))


def cheapest(problem: Regression, params: Params, loss: Any, dtype: Any, steps: int, is_searched: bool) -> str:
    """The method that takes less work, as counted in multiply-adds; ``is_searched``: the rate is still to be found.

    An algorithm or a dtype that is asked for is asked of the convolutions.
    """
    if callable(loss) or problem.options.get("algorithm", "auto") != "auto" or problem.options.get("dtype") is not None:
        return "steps"
    _, reading = read_design(problem, tuple(params.kernel.shape), params.bias is not None, dtype)
    geometry = reading[-1]
    what = moments_of(problem, geometry, params.bias is not None)
    columns = geometry.terms + (params.bias is not None)
    if 0 in (*geometry.x_shape, *geometry.y_shape) or geometry.groups * columns**2 > what.products:
        return "steps"
    spectrum, once = 5 * geometry.groups * columns**3, prod(geometry.kernel_shape) * columns
    step = 2 * geometry.multiply_adds + COPY * (prod(geometry.x_shape) + 3 * prod(geometry.y_shape))
    gathered = total_work(what, problem.backend, geometry)
    by_gram = gathered + (steps + 1) * once + spectrum * is_searched
    if what.accumulator != dtype_name(problem.x.dtype):
        by_gram += (_wide_factor(problem) - 1) * gathered
    else:  # centered: eigenvectors, and one step on the data
        by_gram += 3 * spectrum + step
    return "gram" if by_gram < (steps + 1 + 20 * is_searched) * step else "steps"


def _wide_factor(problem: Regression) -> int:
    """Time of a product in double precision, in that of single; many an accelerator has few units for it."""
    return 2 if problem.backend.device_kind(problem.x) == "cpu" else 32
