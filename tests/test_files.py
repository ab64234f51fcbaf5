from __future__ import annotations

import errno
import os
import signal
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from sentryfuse import files
from sentryfuse.errors import ConfigError, InputError

pytestmark = pytest.mark.device

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text()
json_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def names_in(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("laws")


@given(value=json_values)
def test_what_is_written_as_json_is_read_back(one_folder, value):
    path = one_folder / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value
    assert names_in(one_folder) == {"value.json"}


@given(st.dictionaries(st.sampled_from(string.ascii_letters), st.integers(), min_size=1))
def test_keys_keep_the_order_given(one_folder, value):
    path = one_folder / "value.json"
    files.write_json(path, value)
    assert list(files.read_json(path)) == list(value)


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], {"x": -float("inf")}])
def test_numbers_json_does_not_have_are_refused_before_anything_is_written(tmp_path, value):
    path = tmp_path / "value.json"
    files.write_text(path, "old")
    with pytest.raises(InputError, match="give null instead"):
        files.write_json(path, value)
    assert path.read_text() == "old"


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "NaN", "[Infinity]", "[" * 100_000])
def test_bad_json_is_one_sentence(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.json: it is not valid JSON") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text_are_not_json(tmp_path):
    path = tmp_path / "bad.json"
    path.write_bytes(b'"\xff\xfe"')
    with pytest.raises(InputError, match="not valid JSON"):
        files.read_json(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a directory"):
        files.read_json(tmp_path)


def test_a_failure_in_the_middle_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "value.txt"
    path.write_text("old")

    def write_half() -> None:
        with files.write_atomically(path) as draft:
            draft.write_text("half")
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == {"value.txt"}


def test_the_draft_is_beside_the_target_has_its_name_and_is_not_the_target(tmp_path):
    path = tmp_path / "new" / "figure.svg"
    with files.write_atomically(path) as draft:
        assert draft.name == "figure.svg"
        assert draft != path
        assert draft.is_relative_to(path.parent)
        assert draft.relative_to(path.parent).parts[0].endswith(".partial")
        draft.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names_in(path.parent) == {"figure.svg"}


def test_a_full_disk_becomes_a_sentence(tmp_path):
    path = tmp_path / "value.txt"

    def run_out_of_space() -> None:
        with files.write_atomically(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"value\.txt: no space left on device; free some space"):
        run_out_of_space()
    assert names_in(tmp_path) == set()


def test_a_folder_in_the_place_of_the_file_or_of_its_parent_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        files.write_text(tmp_path, "text")
    files.write_text(tmp_path / "file", "text")
    with pytest.raises(InputError, match="cannot write"):
        files.write_text(tmp_path / "file" / "below", "text")


def test_a_link_stays_a_link(tmp_path):
    target = tmp_path / "target.txt"
    target.write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.skipif(not Path(os.devnull).is_char_device(), reason="needs a device file")
def test_a_device_file_is_written_to_and_not_replaced():
    files.write_text(os.devnull, "gone")
    assert Path(os.devnull).is_char_device()


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    files.write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def fill(path: Path, text: str, *, overwrite: bool = False) -> None:
    with files.folder_atomically(path, overwrite=overwrite) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / text).write_text(text)


def test_a_folder_appears_whole(tmp_path):
    path = tmp_path / "deep" / "run"
    with files.folder_atomically(path) as draft:
        (draft / "a").write_text("1")
        assert not path.exists()
    assert names_in(path) == {"a"}
    assert names_in(path.parent) == {"run"}


def test_an_empty_folder_may_be_filled_and_a_full_one_may_not(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    fill(path, "first")
    with pytest.raises(ConfigError, match="it exists and is not empty; choose another name"):
        fill(path, "second")
    assert names_in(path / "inner") == {"first"}


def test_overwriting_a_folder_replaces_it_as_a_whole(tmp_path):
    path = tmp_path / "run"
    fill(path, "first")
    (path / "stale").write_text("old")
    fill(path, "second", overwrite=True)
    assert names_in(path) == {"inner"}
    assert names_in(path / "inner") == {"second"}
    assert names_in(tmp_path) == {"run"}


def test_a_failure_in_the_middle_keeps_the_old_folder(tmp_path):
    path = tmp_path / "run"
    fill(path, "first")

    def fill_half() -> None:
        with files.folder_atomically(path, overwrite=True) as draft:
            (draft / "half").write_text("half")
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        fill_half()
    assert names_in(path / "inner") == {"first"}
    assert names_in(tmp_path) == {"run"}


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("a file")
    with pytest.raises(ConfigError, match="it is a file"):
        fill(path, "first", overwrite=True)
    assert path.read_text() == "a file"


def test_places_that_cannot_be_written_to_are_noticed_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    files.check_place(tmp_path / "new" / "deeper" / "a.csv")
    files.check_place(tmp_path / "file")
    files.check_place(tmp_path / "run", folder=True)
    files.check_place("/dev/null")
    for path, folder, word in (
        (tmp_path, False, "it is a folder"),
        (tmp_path / "file", True, "it is a file"),
        (tmp_path / "file" / "a.csv", False, "file is a file"),
        (tmp_path / ("n" * 300), False, "too long"),
        (tmp_path / "a\0b", False, "null"),
    ):
        with pytest.raises(InputError, match=word) as caught:
            files.check_place(path, folder=folder)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_noticed_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="may not be written to"):
        files.check_place(tmp_path / "a.csv")
    tmp_path.chmod(0o700)


def test_what_safetensors_could_not_write_is_a_sentence(tmp_path):
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    with (
        pytest.raises(InputError, match="cannot write w: no space left on device; free some space"),
        files.writing("w"),
    ):
        raise SafetensorError(said)
    with pytest.raises(SafetensorError), files.writing("w"):
        raise SafetensorError("invalid header")


def test_names_that_are_no_text_are_escaped_in_json(tmp_path):
    files.write_json(tmp_path / "a.json", {"name": "b\udcff"})
    assert files.read_json(tmp_path / "a.json") == {"name": "b\udcff"}


KILLED = """
import os, pathlib, signal, sys
from sentryfuse.files import {writer}
with {writer}(sys.argv[1]) as draft:
    (draft / "half" if draft.is_dir() else draft).write_text("half")
    print(flush=True)
    os.kill(os.getpid(), signal.{signal})
"""


def left_by(writer: str, path: Path, *, ended: str = "SIGKILL") -> subprocess.Popen[bytes]:
    """A process that begins to write and is killed, or stopped, in the middle."""
    code = KILLED.format(writer=writer, signal=ended)
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    if ended == "SIGKILL":
        process.wait()
        process.stdout.close()
    return process


def make_old(folder: Path) -> None:
    for room in folder.glob(f"*{files.PARTIAL}"):
        os.utime(room, (time.time() - 60, time.time() - 60))


@pytest.mark.skipif(files.fcntl is None, reason="no locks here")
@pytest.mark.parametrize("writer", ["write_atomically", "folder_atomically", "room_beside"])
def test_what_a_killed_writer_left_goes_with_the_next_one_of_that_target(tmp_path, writer):
    left_by(writer, tmp_path / "a")
    left_by("write_atomically", tmp_path / "b")
    assert len(names_in(tmp_path)) == 2
    make_old(tmp_path)
    files.write_text(tmp_path / "a", "whole")
    assert len(names_in(tmp_path)) == 2  # what was left of the other target is not ours
    files.write_text(tmp_path / "b", "whole")
    assert names_in(tmp_path) == {"a", "b"}


@pytest.mark.skipif(files.fcntl is None, reason="no locks here")
def test_what_a_living_or_a_young_writer_has_stays(tmp_path):
    writer = left_by("write_atomically", tmp_path / "a", ended="SIGSTOP")
    left_by("write_atomically", tmp_path / "c")
    make_old(tmp_path)
    left_by("write_atomically", tmp_path / "b")
    try:
        files.write_text(tmp_path / "a", "whole")
        files.write_text(tmp_path / "b", "whole")
        files.write_text(tmp_path / "c", "whole")
        rooms = names_in(tmp_path) - {"a", "b", "c"}
        assert len(rooms) == 2
        writer.send_signal(signal.SIGCONT)
        assert writer.wait(timeout=20) == 0
        assert (tmp_path / "a").read_text() == "half"  # the last one to end wins
    finally:
        writer.kill()
        writer.communicate()
