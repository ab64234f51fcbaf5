"""What a path may lead to: pipes, folders, links, files that change. Nothing hangs or leaks. No torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentryfuse.bundle import container, load_bundle
from sentryfuse.errors import BundleError
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

GOOD = GOLDEN / "tiny-v3.bundle"
CONTENT = GOOD.read_bytes()


def refused(path: Path | str, words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is not a file")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev", "/"])
def test_devices_and_folders_are_refused(path):
    refused(path, "is not a file|cannot be opened")


def test_links_lead_to_their_file_or_are_refused(tmp_path):
    good, loop, lost = (tmp_path / name for name in ("good", "loop", "lost"))
    good.symlink_to(GOOD)
    loop.symlink_to(loop)
    lost.symlink_to(tmp_path / "nothing")
    assert load_bundle(good).digest == load_bundle(GOOD).digest
    refused(loop, "cannot be opened")
    refused(lost, "does not exist")


def test_a_path_that_cannot_be_is_refused():
    refused("a\0b", "cannot be opened")
    refused("a" * 5000, "cannot be opened")


def test_an_empty_file_is_refused(tmp_path):
    for size in range(12):
        (tmp_path / "short").write_bytes(b"\0" * size)
        refused(tmp_path / "short", "header|too early")


def test_a_file_of_nothing_is_refused_unread(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write((10).to_bytes(8, "little"))
        file.truncate(10**9)
        refused(path, "header")
        file.truncate(container.MAX_BYTES + 1)
    refused(path, "more than the limit")


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    path = tmp_path / "changing.bundle"
    path.write_bytes(CONTENT)

    def changing(self):
        with path.open("r+b") as file:
            file.truncate(len(CONTENT) + (4096 if change == "grows" else -4096))
        return read(self)

    read = container.Container.tensors
    monkeypatch.setattr(container.Container, "tensors", changing)
    refused(path, f"{change} while it is read")


def test_nothing_stays_open(tmp_path):
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc here")
    bad = tmp_path / "bad"
    bad.write_bytes(CONTENT[:-1])
    load_bundle(GOOD)
    before = len(os.listdir(folder))  # noqa: PTH208
    for _ in range(20):
        load_bundle(GOOD)
        refused(bad, "bytes")
    assert len(os.listdir(folder)) == before  # noqa: PTH208


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "locked"
    path.write_bytes(CONTENT)
    path.chmod(0)
    refused(path, "cannot be opened")
