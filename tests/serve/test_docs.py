"""The page about serving keeps its promises: commands run, names are there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="starlette is not installed; pip install 'sentryfuse[serve]'")

from sentryfuse.bundle.signature import read_signer, write_keys
from tests.serve.served import BUNDLE, TOKEN, ended, started

pytestmark = pytest.mark.device

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
CURLS = [line for line in LINES if line.startswith("curl ")]
SIGNED = [line for line in CURLS if "Signature" in line]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    yield from ended(started(tmp_path_factory.mktemp("docs"), token=True, speed=10))


def test_the_page_holds_nothing_that_is_not_run_here():
    others = [line for line in LINES if line not in CURLS]
    assert [line.split()[0] for line in others] == ["pip", "sentryfuse"]  # the run is the fixture's
    assert " --serve 127.0.0.1:8080" in others[1]


def asked(line, run, folder):
    return subprocess.run(
        line.replace("http://127.0.0.1:8080/", run.url),
        shell=True,
        cwd=folder,
        env={**os.environ, "SENTRYFUSE_SERVE_TOKEN": TOKEN, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("line", [line for line in CURLS if line not in SIGNED])
def test_every_request_is_answered(line, run, tmp_path):
    (tmp_path / "model.bundle").write_bytes(BUNDLE.read_bytes())
    done = asked(line, run, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_a_signed_bundle_is_sent_as_the_page_tells(tmp_path):
    pytest.importorskip("cryptography", reason="signing is an extra; pip install 'sentryfuse[sign]'")
    write_keys(tmp_path / "site")
    signer, content = read_signer(tmp_path / "site.pem"), BUNDLE.read_bytes()
    (tmp_path / "model.bundle").write_bytes(content)
    signer.write(tmp_path / "model.bundle", signer.line(content))
    options = ("--verify", str(tmp_path / "site.pub.pem"))
    with contextmanager(ended)(
        started(tmp_path, *options, token=True, speed=30, bundle=tmp_path / "model.bundle")
    ) as run:
        assert len(SIGNED) == 1
        done = asked(SIGNED[0], run, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["outcome"] == "took_over"
        unsigned = asked(
            SIGNED[0].replace('-H "Sentryfuse-Signature: $(cat model.bundle.sig)"', ""), run, tmp_path
        )
        assert "403" in unsigned.stderr
        assert "not signed" in json.loads(unsigned.stdout)["error"]


def test_every_metric_stands_in_the_table_and_none_else(run, tmp_path):
    trace = tmp_path / "power.csv"
    trace.write_text("time_s,power_w,charge\n0,1,0.75\n100000,1,0.75\n", encoding="utf-8")
    told = set(re.findall(r"^# TYPE (\S+)", run.ask("metrics")[2], re.MULTILINE))
    with contextmanager(ended)(started(tmp_path, "--trace", str(trace), speed=30)) as metered:
        metered.wait(lambda: "sentryfuse_charge_ratio" in metered.ask("metrics")[2])
        with_meter = set(re.findall(r"^# TYPE (\S+)", metered.ask("metrics")[2], re.MULTILINE))
    named = re.findall(r"`(sentryfuse_[a-z_]+)", PAGE)
    powered = {name for name in named if re.search("watts|joules|charge", name)}
    assert sorted(told | powered) == sorted(named)
    assert with_meter - told == powered - {"sentryfuse_energy_joules"}  # a trace tells no energy
