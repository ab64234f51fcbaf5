"""Keys: whatever decides a result changes them, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sentryfuse.data import save_windows
from sentryfuse.errors import ConfigError
from sentryfuse.study.design import StudyDesign, load_design, preset_names
from sentryfuse.study.jobs import STUDY_VERSION, data_digests, digest, evaluations, trainings
from sentryfuse.study.lines import Place
from tests.tiny import tiny_windows

DESIGN = {
    "backbones": ["mult"],
    "datasets": {"a": {"file": "a.npz", "turns": [{"seed": 1, "fold": "0/5"}]}},
    "trainings": ["gate"],
    "ratios": [0.4, 0.8],
    "missing_rates": [0.0, 0.4],
    "protocols": ["present", "full"],
    "methods": [{"scorer": "gate"}],
    "epochs": 3,
}
DATASET, METHOD = DESIGN["datasets"]["a"], DESIGN["methods"][0]  # type: ignore[index]


def keys(data="sha", **changes):
    """Line keys of the first method, by place, and the key of the training."""
    design = StudyDesign.from_json({**DESIGN, **changes})
    training = trainings(design, dict.fromkeys(design.datasets, data))[0]
    job = evaluations(design, training)[1]
    return training.key, {place: job.line_key(place) for place in job.places}


OF_TRAINING = {
    "backbone": {"backbones": ["maestro"]},
    "data set": {"datasets": {"b": DATASET}},
    "normalise": {"datasets": {"a": {**DATASET, "normalise": "subject"}}},
    "seed": {"datasets": {"a": {**DATASET, "turns": [{"seed": 2, "fold": "0/5"}]}}},
    "fold": {"datasets": {"a": {**DATASET, "turns": [{"seed": 1, "fold": "1/5"}]}}},
    "training": {"trainings": ["plain"]},
    "preset": {"preset": "paper"},
    "attention": {"attention": "dense"},
    "epochs": {"epochs": 4},
    "data": {"data": "another sha"},
}
OF_METHOD = {
    "scorer": {"methods": [{"scorer": "taylor"}]},
    "sensors": {"methods": [{**METHOD, "sensors": "blind"}]},
    "allocation": {"methods": [{**METHOD, "allocation": "uniform"}]},
    "repair": {"methods": [{**METHOD, "repair": "bias"}]},
    "windows": {"windows": 10},
    "calibration": {"calibration_windows": 10},
}
DECISIVE = OF_TRAINING | OF_METHOD
NEUTRAL = {
    "another method": {"methods": [METHOD, {"scorer": "taylor"}]},
    "where a method is tried": {"methods": [{**METHOD, "trainings": ["gate"]}]},
    "another ratio": {"ratios": [0.2, 0.4, 0.8]},
    "another turn": {"datasets": {"a": {**DATASET, "turns": [*DATASET["turns"], {"seed": 2}]}}},
    "another name of the file": {"datasets": {"a": {**DATASET, "file": "copy.npz"}}},
    "defaults written out": {"windows": 1000, "preset": "small"},
}


@pytest.mark.parametrize(
    "changes", [*OF_TRAINING.values(), *OF_METHOD.values()], ids=[*OF_TRAINING, *OF_METHOD]
)
def test_what_decides_a_line_changes_every_key(changes):
    training, lines = keys()
    training_then, lines_then = keys(**changes)
    assert not {*lines.values()} & {*lines_then.values()}
    assert (training == training_then) == (changes in OF_METHOD.values())


@pytest.mark.parametrize("changes", NEUTRAL.values(), ids=NEUTRAL)
def test_what_decides_nothing_changes_no_key(changes):
    training, lines = keys()
    training_then, lines_then = keys(**changes)
    assert training == training_then
    assert lines.items() <= lines_then.items()


def test_every_place_has_a_key_of_its_own():
    _, lines = keys()
    assert len({*lines.values()}) == len(lines) == 8


def test_the_version_is_part_of_every_key(monkeypatch):
    before = keys()
    monkeypatch.setattr("sentryfuse.study.jobs.STUDY_VERSION", STUDY_VERSION + 1)
    after = keys()
    assert before[0] != after[0]
    assert not {*before[1].values()} & {*after[1].values()}


def test_the_order_of_json_keys_decides_nothing():
    backwards = json.loads(json.dumps(DESIGN), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert StudyDesign.from_json(backwards) == StudyDesign.from_json(DESIGN)
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})


def test_a_design_comes_back_as_it_was():
    design = StudyDesign.from_json(DESIGN)
    assert StudyDesign.from_json(json.loads(json.dumps(design.to_json()))) == design


def test_the_full_study_has_144_cells_and_three_turns():
    design = load_design("full")
    assert len(design.cells()) == len({*design.cells()}) == 144
    assert {len(dataset.turns) for dataset in design.datasets.values()} == {3}
    assert len({training.name for training in trainings(design, {})}) == 81
    assert preset_names() == ["full", "quick"]


def test_ratio_zero_is_there_once_per_missing_rate():
    design = StudyDesign.from_json(DESIGN)
    dense, _ = evaluations(design, trainings(design, {})[0])
    assert dense.places == (Place(None, 0.0, 0.0), Place(None, 0.0, 0.4))
    assert dense.method_name == "dense"


def test_methods_are_named_and_tried_where_they_belong():
    design = StudyDesign.from_json(
        {
            **DESIGN,
            "trainings": ["plain", "gate"],
            "methods": [
                {"scorer": "gate", "trainings": ["gate"]},
                {"scorer": "taylor", "sensors": "blind", "allocation": "uniform", "repair": "scale"},
            ],
        }
    )
    assert [m.name for m in design.methods_of("gate")] == ["gate/aware", "taylor-uniform+scale/blind"]
    assert [m.name for m in design.methods_of("plain")] == ["taylor-uniform+scale/blind"]


BAD = {
    "a missing key": ({k: v for k, v in DESIGN.items() if k != "ratios"}, "ratios"),
    "an unknown key": ({**DESIGN, "ratio": [0.5]}, "ratio"),
    "a word for a number": ({**DESIGN, "windows": "many"}, "windows"),
    "no windows": ({**DESIGN, "windows": 0}, "windows"),
    "ratio 0": ({**DESIGN, "ratios": [0.0]}, "ratios.0"),
    "a rate of 1": ({**DESIGN, "missing_rates": [1.0]}, "missing_rates.0"),
    "an unknown training": ({**DESIGN, "trainings": ["elastic"]}, "trainings.0"),
    "an unknown protocol": ({**DESIGN, "protocols": ["some"]}, "protocols.0"),
    "an unknown repair": ({**DESIGN, "methods": [{"scorer": "gate", "repair": "glue"}]}, "repair"),
    "a training it has not": (
        {**DESIGN, "methods": [{"scorer": "gate", "trainings": ["plain"]}]},
        "gate/aware",
    ),
    "twice the same": ({**DESIGN, "ratios": [0.4, 0.4]}, "twice"),
    "twice the same method": ({**DESIGN, "methods": [METHOD, METHOD]}, "twice"),
    "no turn": ({**DESIGN, "datasets": {"a": {"turns": []}}}, "turns"),
    "a fold that is none": ({**DESIGN, "datasets": {"a": {"turns": [{"fold": "1"}]}}}, "fold"),
    "another format": ({**DESIGN, "format": 2}, "format"),
    "a list": ([DESIGN], "design"),
}


@pytest.mark.parametrize(("data", "said"), BAD.values(), ids=BAD)
def test_a_design_that_cannot_be_used_names_the_entry(data, said):
    with pytest.raises(ConfigError, match=said) as caught:
        StudyDesign.from_json(data)
    assert "\n" not in str(caught.value)


def test_nothing_of_that_name_is_said():
    design = StudyDesign.from_json(DESIGN)
    with pytest.raises(ConfigError, match="mult-a-gate-seed1-fold0of5"):
        trainings(design, {}, only="flexmoe")


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    design = StudyDesign.from_json({**DESIGN, "datasets": {"a": DATASET, "wearable": {"turns": [{}]}}})
    for folder, said in ((None, "--data"), (tmp_path, "a.npz")):
        with pytest.raises(ConfigError, match=said):
            data_digests(design, folder, ["a"])
    save_windows(tmp_path / "a.npz", tiny_windows())
    one = data_digests(design, tmp_path, ["a"])["a"]
    save_windows(tmp_path / "a.npz", replace(tiny_windows(), licence="another"))
    assert len(one) == 64
    assert one != data_digests(design, tmp_path, ["a"])["a"]
    embedded = data_digests(design, None, ["wearable"])
    assert embedded == data_digests(design, None, ["wearable"])
