"""Other people's convolutions on the same NumPy arrays: SciPy, OpenCV, ONNX Runtime; those that are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import ndimage

from bench import natives
from bench.natives import each
from bench.workloads import Workload

Array = Any
NumPyArray = np.ndarray[Any, Any]
Thunks = dict[str, Callable[[], Any]]

THREADS = 2


def make_peers(workload: Workload, arrays: list[NumPyArray]) -> Thunks:
    """Every peer that can do the work, ready to be called."""
    if workload.transform or workload.kind not in natives.KINDS:
        return {}
    thunks: Thunks = {}
    for libraries, builder in PEERS:
        if all(find_spec(name) for name in libraries):
            thunks |= builder(workload, arrays)
    return thunks


def _scipy(workload: Workload, arrays: list[NumPyArray]) -> Thunks:
    if workload.kind != "filter":
        return {}
    return {name: _bound(call, arrays) for name, call in natives.numpy_filter(workload).items()}


def _torch(workload: Workload, arrays: list[NumPyArray]) -> Thunks:
    calls = natives.on_numpy(natives.KINDS[workload.kind]["torch"])(workload)
    return {name: _bound(call, arrays) for name, call in calls.items()}


def _bound(call: Callable[..., Any], arrays: list[NumPyArray]) -> Callable[[], Any]:
    return lambda: call(*arrays)


def factors(kernel: NumPyArray) -> tuple[NumPyArray, NumPyArray] | None:
    """A column and a row whose outer product is the kernel, if there are such."""
    columns, values, rows = np.linalg.svd(kernel.astype(np.float64))
    if len(values) > 1 and values[1] > 1e-6 * values[0]:
        return None
    return (columns[:, 0] * values[0]).astype(np.float32), rows[0].astype(np.float32)


def _inside(x_shape: tuple[int, ...], window: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(k // 2, n - (k - 1) // 2) for n, k in zip(x_shape[-len(window) :], window, strict=True))


def _two_passes(workload: Workload, arrays: list[NumPyArray]) -> Thunks:
    """`scipy.ndimage.gaussian_filter` and `sobel` are these two calls."""
    x, kernel = arrays[0], arrays[-1]
    pair = factors(kernel) if workload.kernel is not None else None
    if pair is None:
        return {}
    column, row = pair
    inside = _inside(x.shape, kernel.shape)

    def call() -> Array:
        return ndimage.correlate1d(ndimage.correlate1d(x, row, 1, mode="constant"), column, 0, mode="constant")[inside]

    return {"scipy two passes": call}


def _opencv(workload: Workload, arrays: list[NumPyArray]) -> Thunks:
    import cv2

    x, kernel = arrays[0], arrays[-1]
    if workload.kind not in ("filter", "tiny") or kernel.ndim != 2:
        return {}
    inside, border = _inside(x.shape, kernel.shape), cv2.BORDER_CONSTANT

    def one(image: NumPyArray) -> Array:
        return cv2.filter2D(image, -1, kernel, borderType=border)[inside]

    def call() -> Array:
        return one(x) if x.ndim == 2 else np.stack([one(image) for image in x])

    thunks: Thunks = {"opencv": call}
    pair = factors(kernel) if workload.kernel is not None else None
    if pair is not None:
        column, row = pair
        thunks["opencv two passes"] = lambda: cv2.sepFilter2D(x, -1, row, column, borderType=border)[inside]
    return thunks


def _onnx(workload: Workload, arrays: list[NumPyArray]) -> Thunks:
    """A model of one node, its kernel a constant; the filters are layers with one channel."""
    if workload.kind == "deform":
        return {}
    x, kernel = arrays
    is_layer = workload.kind not in ("filter", "tiny")
    ndim = kernel.ndim - 2 if is_layer else kernel.ndim
    if workload.kind == "depthwise":
        kernel = kernel.reshape(-1, 1, *kernel.shape[2:])
    elif not is_layer:
        x, kernel = x.reshape(-1, 1, *x.shape[x.ndim - ndim :]), kernel[None, None]
    session = _session(workload, ndim, x, kernel)

    def call() -> Array:
        (y,) = session.run(None, {"x": x})
        return y if is_layer else y.reshape(*arrays[0].shape[:-ndim], *y.shape[2:])

    return {"onnxruntime": call}


def _session(workload: Workload, ndim: int, x: NumPyArray, kernel: NumPyArray) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    options = workload.options
    node = helper.make_node(
        "ConvTranspose" if workload.kind == "transposed" else "Conv",
        ["x", "kernel"],
        ["y"],
        strides=each(options.get("stride", 1), ndim),
        dilations=each(options.get("dilation", 1), ndim),
        pads=2 * each(options.get("padding", 0), ndim),
        group=x.shape[1] if workload.kind == "depthwise" else options.get("groups", 1),
    )
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(kernel), "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


#: Modules that a peer needs, and its builder.
PEERS: tuple[tuple[tuple[str, ...], Callable[[Workload, list[NumPyArray]], Thunks]], ...] = (
    ((), _scipy),
    ((), _two_passes),
    ((), _torch),
    (("cv2",), _opencv),
    (("onnx", "onnxruntime"), _onnx),
)
