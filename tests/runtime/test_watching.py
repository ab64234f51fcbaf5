"""A bundle's file is replaced while it is served: real files, and a real process without the extra."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.data import save_windows
from sentryfuse.runtime import Runtime
from sentryfuse.runtime.offers import Outcome
from sentryfuse.runtime.watching import BundleWatch
from tests.rewritten import GOLDEN_BUNDLE, favour
from tests.runtime.test_runtime import BUNDLE, healthy, source
from tests.tiny import tiny_windows

pytestmark = pytest.mark.device

LOOK_S = 0.02
CONTENT = GOLDEN_BUNDLE.read_bytes()


@pytest.fixture
def other(tmp_path) -> Path:
    return favour(tmp_path / "other.bundle", 0.5)


class Kept:
    """A runtime whose bundle's file is looked after, and the file."""

    def __init__(self, path: Path, load: Callable[[Path], Bundle] = load_bundle) -> None:
        self.path = path
        watch = BundleWatch(path, look_s=LOOK_S)
        self.runtime = Runtime(load(path), source(healthy()))
        self.watch = watch.start(self.runtime, load)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.watch.close()
        self.runtime.close()

    def outcomes(self, n: int) -> list[Outcome]:
        """What became of offers, as soon as there are so many; looks go on a little."""
        for _ in range(500):
            if len(self.runtime.serving.offers.latest) >= n:
                break
            time.sleep(LOOK_S)
        time.sleep(5 * LOOK_S)
        return [offer.outcome for offer in self.runtime.serving.offers.latest]

    def put(self, content: bytes) -> None:
        """Rename a file over it."""
        draft = self.path.with_suffix(".draft")
        draft.write_bytes(content)
        draft.replace(self.path)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "model.bundle"
    path.write_bytes(CONTENT)
    return path


def test_a_file_that_is_renamed_over_it_takes_over_and_a_touched_one_does_not(path, other):
    with Kept(path) as kept:
        first = next(iter(kept.runtime))
        os.utime(path)
        kept.put(CONTENT)
        assert kept.outcomes(0) == []
        kept.put(other.read_bytes())
        assert kept.outcomes(1) == [Outcome.WAITING]
        rest = list(kept.runtime)
    assert first.bundle == BUNDLE.digest[:12]
    assert {r.bundle for r in rest} == {load_bundle(other).digest[:12]}


def test_a_link_that_is_switched_is_followed(path, other, tmp_path):
    link = tmp_path / "current.bundle"
    link.symlink_to(path)
    with Kept(link) as kept:
        draft = tmp_path / "draft"
        draft.symlink_to(other)
        draft.replace(link)
        assert kept.outcomes(1) == [Outcome.WAITING]


def test_what_is_broken_is_refused_once_and_the_whole_one_is_taken_later(path, other):
    content = other.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    with Kept(path) as kept:
        next(iter(kept.runtime))
        kept.put(bytes(damaged))
        assert kept.outcomes(1) == [Outcome.REFUSED]
        kept.put(content[: len(content) // 2])
        assert kept.outcomes(2) == [Outcome.REFUSED] * 2
        path.unlink()
        assert kept.outcomes(2) == [Outcome.REFUSED] * 2
        path.write_bytes(content)  # in place, not renamed
        assert kept.outcomes(3) == [Outcome.REFUSED] * 2 + [Outcome.WAITING]
        told = [event for event in kept.runtime.events.latest if event["kind"] == "bundle_refused"]
        assert len(told) == 2
        assert all(event["source"] == "model.bundle" for event in told)
        assert {r.bundle for r in kept.runtime} == {load_bundle(other).digest[:12]}


def test_a_file_that_is_being_written_is_not_read_before_it_is_whole(path, other):
    content = other.read_bytes()
    watch = BundleWatch(path, look_s=LOOK_S)
    with path.open("wb") as file:
        for begin in range(0, len(content), len(content) // 9):
            file.write(content[begin : begin + len(content) // 9])
            file.flush()
            assert not watch._has_changed()
    assert watch._has_changed()
    assert not watch._has_changed()


def test_under_a_key_an_unsigned_file_is_refused_until_its_signature_is_there(path, other, tmp_path):
    pytest.importorskip("cryptography", reason="signing is an extra; pip install 'sentryfuse[sign]'")
    from sentryfuse.bundle.signature import read_signer, write_keys

    _, public, _ = write_keys(tmp_path / "site")
    signer, content = read_signer(tmp_path / "site.pem"), other.read_bytes()
    signer.write(path, signer.line(CONTENT))
    with Kept(path, lambda file: load_bundle(file, verify=public)) as kept:
        kept.put(content)
        assert kept.outcomes(1) == [Outcome.REFUSED]
        assert "is not what was signed" in kept.runtime.serving.offers.latest[0].reason
        signer.write(path, signer.line(content))
        assert kept.outcomes(2) == [Outcome.REFUSED, Outcome.WAITING]


@pytest.mark.slow
def test_a_run_without_the_extra_serves_what_takes_the_files_place(path, other, tmp_path):
    recording, out, events = (tmp_path / name for name in ("r.npz", "out.jsonl", "events.jsonl"))
    save_windows(recording, tiny_windows(400))
    argv = ["run", str(path), "--source", f"replay:{recording}?speed=40&split=all", "--watch"]
    argv += ["--json", str(out), "--events", str(events)]
    code = (
        "import sys\nfor name in ('starlette', 'uvicorn', 'prometheus_client'): sys.modules[name] = None\n"
        f"from sentryfuse.cli import main\nsys.exit(main({argv!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    def told(kind: str) -> int:
        text = events.read_text(encoding="utf-8") if events.exists() else ""
        return sum(json.loads(line)["kind"] == kind for line in text.splitlines() if line.endswith("}"))

    def wait(enough: Callable[[], bool]) -> None:
        for _ in range(600):
            if enough():
                return
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        raise AssertionError("not within 30 s")

    try:
        wait(lambda: out.exists() and out.stat().st_size > 0)
        path.with_suffix(".draft").write_bytes(other.read_bytes()[:-9])
        path.with_suffix(".draft").replace(path)
        wait(lambda: told("bundle_refused") == 1)
        path.with_suffix(".draft").write_bytes(other.read_bytes())
        path.with_suffix(".draft").replace(path)
        wait(lambda: told("bundle") == 1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()][:-1]
    assert [row["window_id"] for row in rows] == list(range(len(rows)))
    named = [row["bundle"] for row in rows]
    ours, theirs = BUNDLE.digest[:12], load_bundle(other).digest[:12]
    assert named == [ours] * named.count(ours) + [theirs] * named.count(theirs)
    assert set(named) == {ours, theirs}
