"""Ways to run one geometry: one file and one row each, in the order in which ties are broken."""

from __future__ import annotations

from .abreast import ABREAST
from .algorithm import ALGORITHMS as ALGORITHMS
from .algorithm import Algorithm as Algorithm
from .algorithm import prepare_all as prepare_all
from .algorithm import prepared as prepared
from .algorithm import run as run
from .diagonals import DIAGONALS
from .direct import DIRECT
from .empty import EMPTY
from .fft import FFT
from .floats import FLOATS, ROUNDED
from .gemm import GEMM
from .kn2row import KN2ROW
from .lags import LAGS
from .native import NATIVE
from .phases import PHASES
from .reduce import REDUCE
from .separable import SEPARABLE
from .stretch import STRETCH
from .subpixel import SUBPIXEL
from .toeplitz import TOEPLITZ
from .trim import TRIM
from .wgrad import WGRAD
from .winograd import WINOGRAD

_ROWS = (
    EMPTY,
    NATIVE,
    WGRAD,
    STRETCH,
    ABREAST,
    DIRECT,
    REDUCE,
    GEMM,
    KN2ROW,
    DIAGONALS,
    TOEPLITZ,
    WINOGRAD,
    LAGS,
    FFT,
    SUBPIXEL,
    PHASES,
    TRIM,
    FLOATS,
    ROUNDED,
    SEPARABLE,
)
ALGORITHMS.update({algorithm.name: algorithm for algorithm in _ROWS})
