"""The one file a device needs, read and verified before anything is built from it. Torch-free.

A safetensors file. Its metadata holds a manifest (JSON, with the digest of every tensor but the last);
its tensors are

    weights.<name>   the big model, float32
    gate.<name>      the gate, float32
    manifest.sha256  digest of the manifest's text, 32 bytes

Nothing in it can be executed: no graph, no pickle, no paths, no external data. A file is untrusted until the
last check has passed, in this order; each stage reads no more than the one before has allowed:

    signature   where a key is asked for: of every byte, by that key    no byte has been understood
    container   sizes, header, tensors side by side without holes       only the header has been read
    manifest    every field: type, range, names
    routes      every set of sensors finds its way to an answer
    sizes       no answer takes more memory than a device has
    tensors     names are those the layout asks for
    ---         the body is read once; digests, finite weights
    writer      every step is written once: its weights, options and blocks are those its kind asks for, and
                it makes as many tokens as the layout says
"""

from sentryfuse.bundle.container import FORMAT, SEAL
from sentryfuse.bundle.limits import check_exportable
from sentryfuse.bundle.load import Bundle, load_bundle, save_bundle

__all__ = [
    "FORMAT",
    "SEAL",
    "Bundle",
    "check_exportable",
    "load_bundle",
    "save_bundle",
]
