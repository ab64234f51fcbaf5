"""Multiply-accumulates of an ONNX graph, counted from the shapes the engine really sees."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, helper


def multiplied(model: ModelProto, batch: Mapping[str, NDArray[np.float32]]) -> int:
    """MACs of every MatMul, Gemm and Conv for these windows; `model` gets more outputs."""
    graph = model.graph
    fixed = {t.name: tuple(t.dims) for t in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    known = {*fixed, *(v.name for v in (*graph.input, *graph.output))}
    for node in nodes:
        for name in (*node.input, *node.output):
            if name and name not in known:
                known.add(name)
                graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    engine = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {value.name for value in graph.input}
    feed = {f"window.{name}": x for name, x in batch.items() if f"window.{name}" in inputs}
    names = [output.name for output in engine.get_outputs()]
    shapes = {n: y.shape for n, y in zip(names, engine.run(names, feed), strict=True)}
    shapes |= fixed | {name: x.shape for name, x in feed.items()}
    macs = 0
    for node in nodes:
        left, right = shapes[node.input[0]], shapes[node.input[1]]
        if node.op_type == "Conv":
            macs += math.prod(shapes[node.output[0]]) * math.prod(right[1:])
        else:
            turned = any(a.name == "transA" and a.i for a in node.attribute)
            macs += math.prod(shapes[node.output[0]]) * left[0 if turned else -1]
    return macs
