"""Inputs that a parser once failed on: each is read, or refused in the way that the parser says.

The campaign saves such inputs beside its result; what is worth keeping is copied to findings/<parser>/.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.reliability.parsers import PARSERS

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*/*"))
SECONDS = 5.0  # of processor time


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_failed_is_read_or_refused(tmp_path, finding):
    opened = PARSERS[finding.parent.name](tmp_path)
    content = finding.read_bytes()
    started = time.process_time()
    with suppress(*opened.raises):
        opened.attempt(content)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_of_the_campaign_reads_whole_inputs(tmp_path, name):
    """A target that refuses everything would test nothing."""
    opened = PARSERS[name](tmp_path)
    read = 0
    for seed in opened.seeds:
        with suppress(*opened.raises):
            opened.attempt(seed)
            read += 1
    assert read or name in ("bundle_header", "bundle_manifest", "foreign_npz")  # seeds of a part of a file
