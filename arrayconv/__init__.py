"""Convolution with one meaning on every array library, planned: NumPy, PyTorch, JAX, Dask and the array API."""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from . import kernels as kernels
from .backend import meet_imported as _meet_imported
from .operations.conv import conv as conv
from .operations.correlate import convolve as convolve
from .operations.correlate import corr2d as corr2d
from .operations.correlate import correlate as correlate
from .operations.depthwise import depthwise_conv as depthwise_conv
from .operations.depthwise import separable_conv as separable_conv
from .operations.padding import pad as pad
from .operations.padding import windows as windows
from .operations.transposed import conv_transpose as conv_transpose
from .planner import algorithms as algorithms
from .planner import settings as settings
from .tuning import Tuning as Tuning
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .learn.descent import Fit as Fit
    from .learn.fit import learn_from as learn_from
    from .learn.fit import learn_kernel as learn_kernel
    from .learn.gram import Gram as Gram
    from .learn.gram import gram as gram
    from .learn.layer import Conv2D as Conv2D
    from .learn.optimizers import Optimizer as Optimizer
    from .learn.optimizers import adam as adam
    from .learn.optimizers import sgd as sgd
    from .learn.regression import Params as Params
    from .learn.regression import init_kernel as init_kernel
    from .learn.regression import loss_and_grad as loss_and_grad
    from .learn.solve import solve_from as solve_from
    from .learn.solve import solve_kernel as solve_kernel
    from .operations.columns import fold as fold
    from .operations.columns import unfold as unfold
    from .operations.deform import deform_conv as deform_conv
    from .operations.pixel import icnr as icnr
    from .operations.pixel import pixel_shuffle as pixel_shuffle
    from .operations.pixel import pixel_unshuffle as pixel_unshuffle
    from .operations.pixel import subpixel_conv as subpixel_conv
    from .operations.plan import Plan as Plan
    from .operations.plan import plan as plan
    from .operations.pool import avg_pool as avg_pool
    from .operations.pool import lp_pool as lp_pool
    from .operations.pool import max_pool as max_pool
    from .operations.stream import Stream as Stream
    from .operations.stream import stream as stream
    from .operations.tune import tune as tune
    from .operations.vjp import vjp as vjp
    from .shapes import Layer as Layer
    from .shapes import ReceptiveField as ReceptiveField
    from .shapes import input_sizes as input_sizes
    from .shapes import output_shape as output_shape
    from .shapes import output_size as output_size
    from .shapes import receptive_field as receptive_field
    from .shapes import resolve_padding as resolve_padding
    from .shapes import transposed_size as transposed_size

#: Those names once more, by module: it is imported when one of them is first asked for (PEP 562), since many programs
#: use none. What is imported above serves every convolution.
_DEFERRED = {
    "learn.descent": ("Fit",),
    "learn.fit": ("learn_from", "learn_kernel"),
    "learn.gram": ("Gram", "gram"),
    "learn.layer": ("Conv2D",),
    "learn.optimizers": ("Optimizer", "adam", "sgd"),
    "learn.regression": ("Params", "init_kernel", "loss_and_grad"),
    "learn.solve": ("solve_from", "solve_kernel"),
    "operations.columns": ("fold", "unfold"),
    "operations.deform": ("deform_conv",),
    "operations.pixel": ("icnr", "pixel_shuffle", "pixel_unshuffle", "subpixel_conv"),
    "operations.plan": ("Plan", "plan"),
    "operations.pool": ("avg_pool", "lp_pool", "max_pool"),
    "operations.stream": ("Stream", "stream"),
    "operations.tune": ("tune",),
    "operations.vjp": ("vjp",),
    "shapes": (
        *("Layer", "ReceptiveField", "input_sizes", "output_shape", "output_size", "receptive_field"),
        *("resolve_padding", "transposed_size"),
    ),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _DEFERRED.items() for name in names}

__all__ = [
    *("Tuning", "algorithms", "conv", "conv_transpose", "convolve", "corr2d", "correlate", "depthwise_conv", "kernels"),
    *("pad", "separable_conv", "settings", "windows", *_MODULES),
]

if not TYPE_CHECKING:  # a checker would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return list({*globals(), *_MODULES})


_meet_imported()
