"""Learning a kernel from pairs of arrays: gradients, optimisers, the fit, and the notebook's layer."""

from __future__ import annotations

from .fit import Fit as Fit
from .fit import learn_kernel as learn_kernel
from .layer import Conv2D as Conv2D
from .optimizers import Optimizer as Optimizer
from .optimizers import adam as adam
from .optimizers import sgd as sgd
from .regression import Params as Params
from .regression import init_kernel as init_kernel
from .regression import loss_and_grad as loss_and_grad
