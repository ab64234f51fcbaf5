"""The page about serving keeps its promises: commands run, names are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="starlette is not installed; pip install 'sentryfuse[serve]'")

from tests.serve.served import BUNDLE, TOKEN, ended, started

pytestmark = pytest.mark.device

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
CURLS = [line for line in LINES if line.startswith("curl ")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    yield from ended(started(tmp_path_factory.mktemp("docs"), token=True, speed=10))


def test_the_page_holds_nothing_that_is_not_run_here():
    others = [line for line in LINES if line not in CURLS]
    assert [line.split()[0] for line in others] == ["pip", "sentryfuse"]  # the run is the fixture's
    assert " --serve 127.0.0.1:8080" in others[1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("line", CURLS, ids=range(len(CURLS)))
def test_every_request_is_answered(line, run, tmp_path):
    (tmp_path / "model.bundle").write_bytes(BUNDLE.read_bytes())
    done = subprocess.run(
        line.replace("http://127.0.0.1:8080/", run.url),
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "SENTRYFUSE_SERVE_TOKEN": TOKEN, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_every_metric_stands_in_the_table(run):
    told = set(re.findall(r"^# TYPE (\S+)", run.ask("metrics")[2], re.MULTILINE))
    named = set(re.findall(r"`(sentryfuse_[a-z_]+)", PAGE))
    powered = {name for name in named if re.search("watts|joules|charge", name)}  # needs a meter
    assert told == named - powered
