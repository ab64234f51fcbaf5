"""Let Atheris drive a parser of the campaign: inputs that reach new code are kept and changed further.

    pip install atheris
    python -m benchmarks.reliability.guided mqtt_json -max_total_time=600 CORPUS

What follows the parser's name goes to libFuzzer. The first input that a parser fails on ends the program, and
lies beside it as crash-...; a copy in tests/reliability/findings/PARSER is a test from then on.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.reliability.parsers import PARSERS


def main() -> None:
    """Fuzz the parser that the command line names."""
    import atheris

    name, *others = sys.argv[1:]
    tool: Any = atheris
    with tempfile.TemporaryDirectory() as room:
        with tool.instrument_imports(include=["sentryfuse", "json", "csv"]):
            opened = PARSERS[name](Path(room))  # imports what it needs
        warnings.simplefilter("error")

        def attempt(content: bytes) -> None:
            with suppress(*opened.raises):
                opened.attempt(content)

        corpus = Path(others[-1]) if others and not others[-1].startswith("-") else Path(room) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(opened.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        options = others if others and others[-1] == str(corpus) else [*others, str(corpus)]
        tool.Setup([sys.argv[0], *options], attempt)
        tool.Fuzz()


if __name__ == "__main__":
    main()
