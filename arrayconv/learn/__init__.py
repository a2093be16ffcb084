"""Learning a kernel from pairs of arrays: gradients, optimisers, fits, and the notebook's layer."""

from __future__ import annotations

from .descent import Fit as Fit
from .fit import learn_from as learn_from
from .fit import learn_kernel as learn_kernel
from .gram import Gram as Gram
from .gram import gram as gram
from .layer import Conv2D as Conv2D
from .optimizers import Optimizer as Optimizer
from .optimizers import adam as adam
from .optimizers import sgd as sgd
from .regression import Params as Params
from .regression import init_kernel as init_kernel
from .regression import loss_and_grad as loss_and_grad
from .solve import solve_from as solve_from
from .solve import solve_kernel as solve_kernel
