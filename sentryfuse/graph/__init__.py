"""Layout + plan + weights -> ONNX bytes, written by whoever knows every size. Numpy only.

`write` goes through the steps of a plan; each kind of step has its function in a file of its own, beside the
torch module of the same name in `sentryfuse.model`, which is why the files are many: `layer` (with
`attention` and `feedforward`), `patch`, `sax`, `encoder` (with `operators`), `constants`, `joins`, `heads`.
`kinds` is where they register, `writer` the graph as it grows, `wire` its bytes.

`readout` writes the readout of a sensor set, a graph of its own: window statistics (`statistics`, `observed`,
`spectrum`), then `codes` and `trees`.
"""

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.write import LOGITS, Part, Writer
from sentryfuse.graph.writer import Graph, Tokens

__all__ = ["LOGITS", "Graph", "Misfit", "Part", "Site", "Tokens", "Writer", "emits"]
