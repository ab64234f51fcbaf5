"""What a kill may leave is read; what is damaged otherwise is refused; one process writes."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.study.design import StudyDesign
from sentryfuse.study.jobs import evaluations, trainings
from sentryfuse.study.store import Store, read_lines
from tests.study.test_jobs import DESIGN

STUDY = StudyDesign.from_json(DESIGN)
LINES = [{"key": str(i), "accuracy": i / 10} for i in range(3)]


@pytest.fixture
def folder(tmp_path):
    with Store(tmp_path / "out", STUDY) as store:
        store.add(LINES[:2], {"0": np.zeros(3), "windows": np.arange(3)}, {"key": "t", "seconds": 1.0})
        store.add(LINES[2:], None, {"key": "u", "seconds": 2.0})
    return tmp_path / "out"


def test_what_was_kept_is_there_again(folder):
    with Store(folder, STUDY) as store:
        assert store.lines == LINES
        assert store.keys == {"0", "1", "2"}
        assert [facts["seconds"] for facts in store.times] == [1.0, 2.0]
    (answers,) = (folder / "answers").iterdir()
    with np.load(answers, allow_pickle=False) as arrays:
        assert arrays["windows"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("cut", [2, 5, 20])
def test_half_a_last_line_is_dropped_and_what_follows_is_whole(folder, cut, capsys):
    path = folder / "lines.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_lines([path]) == LINES[:2]
    assert "half a line" in capsys.readouterr().err
    with Store(folder, STUDY) as store:
        assert store.lines == LINES[:2]
        store.add(LINES[2:], None, {"key": "v"})
    assert read_lines([path]) == LINES
    assert "half a line" in capsys.readouterr().err


def test_compressed_lines_are_read_and_equal_keys_count_once(folder, tmp_path):
    packed = tmp_path / "lines.jsonl.gz"
    packed.write_bytes(gzip.compress((folder / "lines.jsonl").read_bytes()))
    assert read_lines([packed]) == read_lines([packed, folder / "lines.jsonl"]) == LINES


@pytest.mark.parametrize("text", ["{", "[1]", '{"accuracy": 1}', "7"])
def test_damage_within_is_refused_with_its_place(tmp_path, text):
    path = tmp_path / "lines.jsonl"
    path.write_text(f"{text}\n{json.dumps(LINES[0])}\n")
    with pytest.raises(InputError, match="line 1"):
        read_lines([path])


@pytest.mark.parametrize("data", [b"", b"not gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]])
def test_a_damaged_archive_is_refused(tmp_path, data):
    path = tmp_path / "lines.jsonl.gz"
    path.write_bytes(data)
    if data:
        with pytest.raises(InputError, match=r"lines\.jsonl\.gz"):
            read_lines([path])
    else:
        assert read_lines([path]) == []


def test_another_study_is_refused(folder):
    with pytest.raises(ConfigError, match="ratios differs"):
        Store(folder, StudyDesign.from_json({**DESIGN, "ratios": [0.4]}))


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="holds no study"):
        Store(tmp_path, STUDY)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_two_processes_do_not_write_into_one_folder(folder):
    with Store(folder, STUDY), pytest.raises(ConfigError, match="another process"):
        Store(folder, STUDY)


def test_lines_of_other_code_are_put_aside_and_nothing_is_lost(folder):
    (training,) = trainings(STUDY, {"a": "sha"})
    job = evaluations(STUDY, training)[1]
    now = [job.line(place) for place in job.places]
    then = {**now[1], "key": "then"}
    foreign = {**now[2], "method": "of another design", "key": "foreign"}
    packed = folder / "lines-old.jsonl.gz"
    text = "".join(json.dumps(line) + "\n" for line in (now[0], then, foreign))
    packed.write_bytes(gzip.compress(text.encode()))
    with Store(folder, STUDY) as store:
        assert store.set_aside(now) == 1
        assert store.set_aside(now) == 0
        assert store.keys == {"0", "1", "2", now[0]["key"], "foreign"}
    assert read_lines([folder / "outdated.jsonl"]) == [then]
    assert not packed.exists()
    with Store(folder, STUDY) as store:
        assert store.keys == {"0", "1", "2", now[0]["key"], "foreign"}
