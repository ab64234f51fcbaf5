"""Bytes changed as fuzzers change them, the same for the same seed; a few microseconds each."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

NUMBERS = (
    *b"0 -0 1 -1 2 0.5 -0.5 1e-9 1e-320 1e3 1e9 1e15 1e16 255 256 65535 65536 2147483647 2147483648".split(),
    *b"4294967296 9223372036854775807 9223372036854775808 18446744073709551616 1e38 3.5e38 1e300".split(),
    *b"1e308 1e400 -1e308 -1e400 nan NaN inf -inf Infinity -Infinity true 0x10 1_000 1,5 1.5.2 +5".split(),
    *(b" 7 ", b"1e", b".", b"-", b"\xd9\xa3", b"9" * 40, b"9" * 400, b"9" * 5000, b"1" * 20_000 + b"x"),
)
TOKENS = (
    *b"null true false None N/A unknown 2026-11-29T12:00:00Z .. ../ %s $ ,,,, \\u0000".split(),
    *(b"[]", b"{}", b'""', b"[[]]", b"[null]", b'{"a":1}', b'"\\ud800"', *(bytes((c,)) for c in range(128))),
    *(b"\r\n", b"\n\n", b"\x1b[2J", b"\x85", b"\xa0", b"\xff", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"),
    *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xe2", b"\xe2\x80\xa8", b"\xe2\x80\xae"),
    *(b"[" * 50, b"{" * 50, b'{"a":' * 2000, b"[" * 100_000),  # deep
    *(piece * 10_000 for piece in (b"_", b" ", b"(", b".", b"[x", b"a,", b"\n", b'"', b"1;")),  # long
)
_NUMBER = re.compile(rb"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(rb'"[^"\n]{0,40}"|[A-Za-z_][A-Za-z_0-9.]*')
_LARGEST = 1 << 20  # bytes; more only takes longer


class Mutator:
    """Changes seeds.

    Args:
        seeds: whole inputs.
        tokens: of the format, beside those of all text.
        rng: what is done.
    """

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> None:
        self.seeds, self.rng = list(seeds), rng
        words = sorted({word for seed in seeds for word in _WORD.findall(seed)})
        self._tokens = (*TOKENS, *tokens, *tokens, *words)
        self._spans = [
            ([m.span() for m in _NUMBER.finditer(seed)], [m.span() for m in _WORD.finditer(seed)])
            for seed in seeds
        ]

    def next(self) -> bytes:
        """A seed with one to eight changes."""
        rng = self.rng
        i = int(rng.random() * len(self.seeds))
        content = self.seeds[i]
        if rng.random() < 0.5:  # in the seed's own words: a number or a word that means something else
            numbers, words = self._spans[i]
            if rng.random() < 0.6 and numbers:
                start, end = numbers[int(rng.random() * len(numbers))]
                content = content[:start] + NUMBERS[int(rng.random() * len(NUMBERS))] + content[end:]
            elif words:
                start, end = words[int(rng.random() * len(words))]
                content = (
                    content[:start] + self._tokens[int(rng.random() * len(self._tokens))] + content[end:]
                )
            if rng.random() < 0.6:
                return content
        return self.change(content)

    def change(self, content: bytes) -> bytes:
        """One to four changes anywhere."""
        rng = self.rng
        for _ in range((1, 1, 1, 2, 2, 3, 4)[int(rng.random() * 7)]):
            kind, n = int(rng.random() * 11), len(content)
            at = int(rng.random() * (n + 1))
            if kind < 2 and at < n:
                content = (
                    content[:at] + bytes((content[at] ^ 1 << int(rng.random() * 8),)) + content[at + 1 :]
                )
            elif kind == 2 and at < n:
                content = content[:at] + bytes((int(rng.random() * 256),)) + content[at + 1 :]
            elif kind < 5:
                content = content[:at] + self._tokens[int(rng.random() * len(self._tokens))] + content[at:]
            elif kind == 5:
                content = content[:at] + content[at + 1 + int(rng.random() * min(64, n + 1)) :]
            elif kind == 6:
                piece = content[at : at + 1 + int(rng.random() * 64)]
                content = content[:at] + piece * (1, 2, 3, 64)[int(rng.random() * 4)] + content[at:]
            elif kind == 7:
                content = content[:at]
            elif kind == 8:
                other = self.seeds[int(rng.random() * len(self.seeds))]
                content = content[:at] + other[int(rng.random() * (len(other) + 1)) :]
            elif kind == 9:
                number = NUMBERS[int(rng.random() * len(NUMBERS))]
                content = content[:at] + number + content[at + int(rng.random() * 8) :]
            else:
                content = content[:at] + rng.randbytes(1 + int(rng.random() * 8)) + content[at + 4 :]
        return content if len(content) <= _LARGEST else content[:_LARGEST]
