"""Result lines: each once, all of one design, and every fault in one sentence."""

from __future__ import annotations

import json

import pytest

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.study.report import is_study, read_study, summarize_study
from tests.report.study_lines import make_lines, write_lines

pytestmark = pytest.mark.device

SMALL = make_lines(
    backbones=("mult",), datasets=("dsads",), trainings=("plain", "gate"), ratios=(0.4,), rates=(0.0, 0.4)
)


@pytest.mark.parametrize("name", ["lines.jsonl", "lines-gpu.jsonl.gz"])
def test_lines_come_back_from_files_and_folders(tmp_path, name):
    path = write_lines(tmp_path / name, SMALL)
    for given in (path, tmp_path):
        assert is_study(given)
        read = read_study([given])
        assert [line.key for line in read.lines] == [line["key"] for line in SMALL]
        assert (read.n_repeated, read.n_torn) == (0, 0)


def test_equal_lines_count_once_and_a_half_written_last_line_not_at_all(tmp_path):
    write_lines(tmp_path / "lines-1.jsonl", SMALL)
    path = write_lines(tmp_path / "lines-2.jsonl", SMALL[:5])
    path.write_text(path.read_text() + json.dumps(SMALL[0])[:50])
    read = read_study([tmp_path])
    assert (len(read.lines), read.n_repeated, read.n_torn) == (len(SMALL), 5, 1)


def change(number, **values):
    return [{**line, **(values if n == number else {})} for n, line in enumerate(SMALL)]


LONELY = SMALL[3]
BAD = {
    "another number": ([*SMALL, {**LONELY, "accuracy": 0.123}], "same evaluation with accuracy"),
    "a key twice": (change(4, key=SMALL[3]["key"]), "of another evaluation"),
    "other windows": (change(7, n_windows=7), "two designs"),
    "two models": ([{**SMALL[0], "model": "a"}, {**SMALL[1], "model": "b"}], "two models"),
    "a missing key": ([{k: v for k, v in LONELY.items() if k != "method"}], "'method'"),
    "a text for a number": (change(2, accuracy="high"), "'accuracy'"),
    "more than everything": (change(2, accuracy=1.5), "'accuracy'"),
    "another form": ([{"t_s": 1.0, "training": 1, "method": 2}], "no result line"),
    "nothing": ([], "holds no result line"),
}


@pytest.mark.parametrize(("lines", "said"), BAD.values(), ids=BAD)
def test_bad_lines_are_refused_in_one_sentence(tmp_path, lines, said):
    path = write_lines(tmp_path / "lines.jsonl", lines)
    with pytest.raises(InputError, match=said) as caught:
        read_study([path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("torn", [b'{"key": "a', b"\xff\xfe\n{}\n"])
def test_a_line_torn_in_the_middle_is_refused(tmp_path, torn):
    path = write_lines(tmp_path / "lines.jsonl", SMALL[:2])
    path.write_bytes(path.read_bytes() + torn + b"\n" + json.dumps(SMALL[2]).encode() + b"\n")
    with pytest.raises(InputError, match=r"lines\.jsonl"):
        read_study([path])


def test_a_torn_archive_is_refused(tmp_path):
    path = write_lines(tmp_path / "lines.jsonl.gz", SMALL)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"lines\.jsonl\.gz"):
        read_study([path])


def test_missing_files_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_study([tmp_path / "none.jsonl"])
    (tmp_path / "design.json").write_text("{}")
    with pytest.raises(InputError, match="holds no lines"):
        read_study([tmp_path])


def design(folder, **more):
    folder.mkdir(exist_ok=True)
    data = {
        "backbones": ["mult"],
        "datasets": {"dsads": {"turns": [{"seed": 0}]}},
        "ratios": [0.4],
        "missing_rates": [0.0, 0.4],
    }
    (folder / "design.json").write_text(json.dumps({**data, **more}))


def test_parts_of_one_design_go_together_and_two_designs_do_not(tmp_path):
    for name, part in (("a", SMALL[::2]), ("b", SMALL[1::2])):
        design(tmp_path / name, windows=100, versions={"numpy": name})
        write_lines(tmp_path / name / "lines.jsonl", part)
    read = read_study([tmp_path / "a", tmp_path / "b"])
    assert len(read.lines) == len(SMALL)
    assert read.design["versions"] == {"numpy": "a"}
    design(tmp_path / "b", windows=200)
    with pytest.raises(ConfigError, match="two designs, 'windows' differs"):
        read_study([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("key", "values"), [("backbones", ["maestro"]), ("ratios", [0.2]), ("missing_rates", [0.0])]
)
def test_a_line_outside_its_design_is_refused(tmp_path, key, values):
    write_lines(tmp_path / "lines.jsonl", SMALL)
    design(tmp_path, **{key: values})
    with pytest.raises(ConfigError, match=f"not among the {key}"):
        read_study([tmp_path])


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (1, {"scorer": "luck"}, "means both"),
        (1, {"method": "dense"}, "called dense"),
        (1, {"auroc": 0.5}, "score them alike"),
    ],
)
def test_lines_that_contradict_each_other_are_refused(tmp_path, number, values, said):
    path = write_lines(tmp_path / "lines.jsonl", change(number, **values))
    with pytest.raises(ConfigError, match=said):
        summarize_study(read_study([path]))


def test_a_design_of_another_form_is_refused(tmp_path):
    write_lines(tmp_path / "lines.jsonl", SMALL)
    for datasets in (["dsads"], "dsads"):
        design(tmp_path, datasets=datasets)
        with pytest.raises(InputError, match="no design of a study"):
            read_study([tmp_path])


def test_other_files_are_no_study(tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"t_s": 0.0, "present": ["a"], "status": "OK"}\n')
    for path in (tmp_path / "none", trace, tmp_path / "other"):
        assert not is_study(path)
    (tmp_path / "other").mkdir()
    assert not is_study(tmp_path / "other")
