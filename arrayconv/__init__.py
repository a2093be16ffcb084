"""Convolution with one meaning on every array library: pure functions for NumPy, PyTorch, JAX, Dask and the standard."""

from __future__ import annotations

from .operations.conv import conv as conv
from .operations.correlate import convolve as convolve
from .operations.correlate import corr2d as corr2d
from .operations.correlate import correlate as correlate
from .operations.padding import pad as pad
from .operations.padding import windows as windows
from .operations.vjp import vjp as vjp
from .planner import algorithms as algorithms
from .planner import settings as settings
from .shapes import Layer as Layer
from .shapes import ReceptiveField as ReceptiveField
from .shapes import input_sizes as input_sizes
from .shapes import output_shape as output_shape
from .shapes import output_size as output_size
from .shapes import receptive_field as receptive_field
from .shapes import resolve_padding as resolve_padding
from .shapes import transposed_size as transposed_size

__version__ = "0.1.0"
