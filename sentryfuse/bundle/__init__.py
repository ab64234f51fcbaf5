"""The one file a device needs, read and verified before anything is built from it. Torch-free.

A safetensors file. Its metadata holds a manifest (JSON, with the digest of every tensor but the last);
its tensors are

    weights.<name>   the big model, float32
    gate.<name>      the gate, float32
    graph.<i>        ONNX graphs of the steps, as bytes, with no width baked in
    manifest.sha256  digest of the manifest's text, 32 bytes

No pickle, no paths, no external data. A file is untrusted until the last check has passed, in this order;
each stage reads no more than the one before has allowed:

    container   sizes, header, tensors side by side without holes       only the header has been read
    manifest    every field: type, range, names
    routes      every set of sensors finds its way to an answer
    tensors     names and shapes are those the layout asks for
    ---         the body is read once; digests, finite weights
    graphs      the wire format, then closed lists of operators, attributes and types
    shapes      sizes of every value inside, worked out without the engine

One file a stage, hence so many; `rules`, `arithmetic`, `arrangement` and `operators` are the closed list.
"""

from sentryfuse.bundle.container import FORMAT, SEAL
from sentryfuse.bundle.load import Bundle, load_bundle, save_bundle
from sentryfuse.bundle.tensors import CONSTANT_WEIGHTS, GRAPH_OPS

__all__ = [
    "CONSTANT_WEIGHTS",
    "FORMAT",
    "GRAPH_OPS",
    "SEAL",
    "Bundle",
    "load_bundle",
    "save_bundle",
]
