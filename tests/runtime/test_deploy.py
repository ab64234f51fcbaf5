"""The files for service managers and containers say what this program does."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from string import Template

import pytest

from sentryfuse.cli import main
from sentryfuse.data import save_windows
from tests.tiny import GOLDEN, tiny_windows

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy" / "sentryfuse@.service"
CONTAINER = ROOT / "deploy" / "Containerfile"
PROGRAM = "/opt/sentryfuse/bin/sentryfuse"


def joined(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\\\n", " ")


@pytest.fixture(scope="module")
def service() -> dict[str, str]:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(joined(UNIT))
    return dict(parser["Service"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, sys.executable), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if unit.stem in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_unit_starts_the_program_with_options_that_it_has(service, tmp_path, capsys):
    (tmp_path / "model.bundle").write_bytes((GOLDEN / "tiny-v3.bundle").read_bytes())
    save_windows(tmp_path / "recording.npz", tiny_windows(60))
    command = Template(service["ExecStart"]).substitute(
        BUNDLE=tmp_path / "model.bundle",
        SOURCE=f"replay:{tmp_path / 'recording.npz'}",
        OPTIONS="--ratio 0.6 --max-age-ms 2000",
        STATE_DIRECTORY=tmp_path / "state",
    )
    program, *argv = shlex.split(command)
    assert program == PROGRAM
    for _ in range(2):
        assert main(argv) == 0, capsys.readouterr().err
    answers = (tmp_path / "state" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum('"kind": "summary"' in line for line in answers) == 2


def test_the_unit_is_watched_and_kept_in_its_place(service):
    assert service["Type"] == "notify"
    assert 0 < int(service["WatchdogSec"]) <= 60
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome", "MemoryDenyWriteExecute"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert re.fullmatch(r"\d+[MG]", service["MemoryMax"])


def test_the_container_holds_the_device_side_alone_and_no_root():
    lines = [line for line in joined(CONTAINER).splitlines() if line and not line.startswith("#")]
    said = [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]
    last = max(i for i, (word, _) in enumerate(said) if word == "FROM")
    final = dict(said[last:])
    assert int(final["USER"].split(":")[0]) > 0
    assert PROGRAM in final["ENTRYPOINT"]
    assert final["STOPSIGNAL"] == "SIGTERM"
    for word, what in said:
        if word == "COPY" and "--from" not in what:
            assert all((ROOT / name).exists() for name in what.split()[:-1]), what
    install = next(what for word, what in said if word == "RUN")
    assert "constraints.txt" in install
    assert "torch" not in joined(CONTAINER).replace("no torch", "")


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="there is no hadolint here")
def test_a_linter_finds_no_fault_in_the_container_file():
    done = subprocess.run(["hadolint", str(CONTAINER)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
