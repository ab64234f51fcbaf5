"""SAX tokens of one sensor; the same computation as `sentryfuse.model.sax`, and the sizes of both.

Notation: B windows · T steps · C channels · N words · D d_model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.types import Modality

ALPHABET = 20


@dataclass(frozen=True)
class SaxSizes:
    """How a window is cut into words.

    Attributes:
        modality: the stream.
        tokens: words aimed at.
    """

    modality: Modality
    tokens: int

    @property
    def word(self) -> int:
        """Samples of a word."""
        return math.ceil(self.modality.length / self.tokens)

    @property
    def n_tokens(self) -> int:
        """Words, one token each; the last is filled up with the last sample."""
        return math.ceil(self.modality.length / self.word)

    @property
    def fill(self) -> NDArray[np.int64]:
        """Which sample is where, `(N * word,)`."""
        return np.minimum(np.arange(self.word * self.n_tokens), self.modality.length - 1)


def symbol_edges() -> NDArray[np.float32]:
    """Where one symbol ends and the next begins, in deviations: quantiles of the normal distribution."""
    return np.array([NormalDist().inv_cdf(k / ALPHABET) for k in range(1, ALPHABET)], np.float32)


def positions(length: int, width: int) -> NDArray[np.float32]:
    """Sines and cosines of falling frequency, side by side, `(length, width)` (Vaswani et al. 2017)."""
    made = np.empty((length, width), np.float32)
    for odd, wave in enumerate((np.sin, np.cos)):
        frequency = 10000.0 ** (-2 * (np.arange(odd, width, 2) // 2) / width)
        made[:, odd::2] = wave(np.arange(length)[:, None] * frequency)
    return made


@emits("sax")
def sax(graph: Graph, site: Site, x: str) -> Tokens:
    """Symbols of word averages, one token per word, `(B, T, C)` -> `(B, N, D)`."""
    m, d = site.modality, site.d_model
    if m is None:
        raise Misfit(f"has a step {site.step.name} (sax) that reads no window")
    sizes = SaxSizes(m, site.size("tokens", 1 << 16))
    if sizes.n_tokens != site.step.tokens:
        raise Misfit(
            f"has a step {site.step.name} that makes {sizes.n_tokens} tokens, not {site.step.tokens}"
        )
    mean, std = site.measured("mean", m.n_channels), site.measured("std", m.n_channels)
    if not std.min() > 0:
        raise Misfit(f"holds deviations that are not positive in {site.step.name}.std")
    z = graph.op("Div", graph.op("Sub", x, graph.hold(mean)), graph.hold(std))
    gone = graph.op("IsNaN", z)
    observed = graph.op("Cast", graph.op("Not", gone), to=1)
    z = graph.op("Where", gone, graph.hold(0.0), z)
    if m.length > 1:
        count = graph.op("Max", graph.reduce("Sum", observed, 1, keep=1), graph.hold(1.0))
        middle = graph.op("Div", graph.reduce("Sum", z, 1, keep=1), count)
        gap = graph.op("Mul", graph.op("Sub", z, middle), observed)
        spread = graph.op(
            "Sqrt", graph.op("Div", graph.reduce("Sum", graph.op("Mul", gap, gap), 1, keep=1), count)
        )
        z = graph.op("Div", gap, graph.op("Max", spread, graph.hold(1e-6)))

    def words(value: str) -> str:
        filled = graph.op("Gather", value, graph.hold(sizes.fill, np.int64), axis=1)
        return graph.reduce("Mean", graph.reshape(filled, -1, sizes.n_tokens, sizes.word, m.n_channels), 2)

    part = words(observed)
    word = graph.op("Div", words(z), graph.op("Max", part, graph.hold(1e-6)))
    above = graph.op("Greater", graph.op("Unsqueeze", word, graph.ints(3)), graph.hold(symbol_edges()))
    symbol = graph.op("Add", graph.reduce("Sum", graph.op("Cast", above, to=1), 3), graph.hold(1.0))
    symbol = graph.op("Where", graph.op("Greater", part, graph.hold(0.0)), symbol, graph.hold(0.0))
    weight = site.weight("project.weight", d, m.n_channels)
    site.multiplies(fixed=sizes.n_tokens * d * m.n_channels)
    y = graph.linear(graph.reshape(symbol, -1, m.n_channels), weight, site.weight("project.bias", d))
    y = graph.reshape(y, -1, sizes.n_tokens, d)
    return Tokens(sizes.n_tokens, full=graph.op("Add", y, graph.hold(positions(sizes.n_tokens, d))))
