"""The story of signed bundles, as docs/signing.md tells it: keys, export, predict, run, refusals."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "signing.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("sentryfuse ")
]


@pytest.fixture
def place(tmp_path, monkeypatch, run_folder, recording):
    """Where the page's commands work."""
    (tmp_path / "run").symlink_to(run_folder)
    (tmp_path / "people.npz").symlink_to(recording)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_in_order_and_strangers_are_refused(place, command):
    assert [words[0] for words in COMMANDS] == ["keys", "export", "predict", "run"]
    for words in COMMANDS:
        done = command(*words)
        assert (done.code, "error" in done.err) == (0, False), done.err
    assert stat.S_IMODE((place / "site.pem").stat().st_mode) == 0o600
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = said.stdout.strip()
    told = command("keys", "--out", "other", "--json", "-").json
    assert re.fullmatch("[0-9a-f]{16}", shown)
    assert told["public"] == "other.pub.pem"
    assert shown in (place / "model.bundle.sig").read_text()
    assert shown not in told["key_id"]

    answer = ("predict", "model.bundle", "--data", "people.npz", "--out", "new.csv", "--verify")
    replay = ("run", "model.bundle", "--source", "replay:people.npz", "--verify")
    refusals = []
    for asked in (answer, replay):
        done = command(*asked, "other.pub.pem")
        refusals.append((done, "model.bundle is signed with another key"))
        refusals.append((command(*asked, "site.pem"), "site.pem is a private key and a public one is needed"))
    content = (place / "model.bundle").read_bytes()
    (place / "model.bundle").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refusals += [(command(*asked, "site.pub.pem"), "is not what was signed") for asked in (answer, replay)]
    (place / "model.bundle").write_bytes(content)
    (place / "model.bundle.sig").unlink()
    refusals += [(command(*asked, "site.pub.pem"), "is not signed") for asked in (answer, replay)]
    for done, said_of in refusals:
        assert (done.code, done.out) == (2, "")
        assert said_of in done.err
        assert done.err.count("\n") == 1
    assert not (place / "new.csv").exists()
    assert command("predict", "model.bundle", "--data", "people.npz", "--out", "new.csv").code == 0


def test_a_key_that_cannot_sign_is_told_before_the_model_is_read(place, command):
    command("keys", "--out", "site")
    done = command("export", "no-such-run", "--out", "m.bundle", "--sign", "site.pub.pem")
    assert (done.code, "is a public key and a private one is needed" in done.err) == (2, True)
    kept = (place / "site.pem").read_bytes()
    done = command("export", "run", "--out", "site.pem", "--sign", "site.pem")
    assert (done.code, "which it would destroy" in done.err) == (2, True)
    assert (place / "site.pem").read_bytes() == kept
    assert command("keys", "--out", "site").err.startswith(
        "error: site.pem exists, and a key is never replaced"
    )
