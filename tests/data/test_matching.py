from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sentryfuse.data import make_windows
from sentryfuse.data.matching import matched
from sentryfuse.errors import ConfigError
from tests.tiny import CLASSES, NAMES, tiny_windows

pytestmark = pytest.mark.device

WINDOWS = tiny_windows()
OWN = WINDOWS.modalities


def recorded(modalities=OWN, **changes):
    """The tiny recording with other sensors, in their order, or other labels."""
    made = {
        "raw": {m.name: WINDOWS.raw[m.name] for m in modalities if m.name in WINDOWS.raw},
        "y": WINDOWS.y,
        "classes": WINDOWS.classes,
        "subject": WINDOWS.subject,
        "split": WINDOWS.split,
    }
    return make_windows("other", modalities, **{**made, **changes})


def test_a_recording_of_the_model_stays_the_object_it_is():
    assert matched(OWN, CLASSES, WINDOWS) is WINDOWS


def test_sensors_are_put_into_the_order_of_the_model():
    found = matched(OWN, CLASSES, recorded(OWN[::-1]))
    assert found.names == NAMES
    np.testing.assert_array_equal(found.present, WINDOWS.present)


def test_a_sensor_that_lacks_is_absent_everywhere_and_takes_no_memory(capsys):
    found = matched(OWN, CLASSES, recorded(OWN[:2]))
    assert found.names == NAMES
    assert not found.present[:, 2].any()
    np.testing.assert_array_equal(found.present[:, :2], WINDOWS.present[:, :2])
    assert np.isnan(found.batch(np.array([0]))[NAMES[2]]).all()
    assert found.raw[NAMES[2]].strides[0] == 0
    assert capsys.readouterr().err == f"other has no {NAMES[2]}: answered without\n"


def test_a_sensor_the_model_does_not_know_is_left_out(capsys):
    found = matched(OWN[:2], CLASSES, WINDOWS)
    assert found.names == NAMES[:2]
    assert f"{NAMES[2]} is not known" in capsys.readouterr().err


def test_classes_are_matched_by_name():
    turned = recorded(y=len(CLASSES) - 1 - WINDOWS.y, classes=CLASSES[::-1])
    found = matched(OWN, CLASSES, turned)
    np.testing.assert_array_equal(found.y, WINDOWS.y)
    assert found.classes == CLASSES
    fewer = recorded(y=np.array([CLASSES[1]] * len(WINDOWS)), classes=None)
    assert set(matched(OWN, CLASSES, fewer).y) == {1}


def test_classes_the_model_does_not_know_are_refused_where_labels_are_needed():
    strange = recorded(classes=("x", "y", "z"))
    with pytest.raises(ConfigError, match=r"class 'x'.*name the classes as it does"):
        matched(OWN, CLASSES, strange)
    found = matched(OWN, CLASSES, strange, labels=False)
    assert not found.labelled
    assert found.classes == CLASSES


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "ecg"}, None),
        ({"rate_hz": OWN[0].rate_hz * 2}, "Hz"),
        ({"length": OWN[0].length + 1}, "cut the windows"),
        ({"channels": ("x", "y")}, "cut the windows"),
        (
            {"length": OWN[0].n_channels, "channels": tuple(map(str, range(OWN[0].length)))},
            "turn the last two",
        ),
        ({"channels": tuple("zyx")}, "in that order"),
        ({"channels": tuple("xyw")}, "give those channels"),
    ],
)
def test_other_windows_are_refused(change, word):
    named = (dataclasses.replace(OWN[0], channels=tuple("xyz")), *OWN[1:])
    other = dataclasses.replace(named[0], **change)
    raw = {m.name: WINDOWS.raw[m.name] for m in OWN[1:]}
    shape = (len(WINDOWS), other.length, other.n_channels)
    windows = recorded((other, *OWN[1:]), raw={**raw, other.name: np.zeros(shape, np.float32)})
    if word is None:
        with pytest.raises(ConfigError, match="use its own data"):
            matched(named[:1], CLASSES, windows)
        return
    with pytest.raises(ConfigError, match=word):
        matched(named, CLASSES, windows)


def test_clocks_of_one_kind_of_logger_may_differ_a_little():
    near = dataclasses.replace(OWN[0], rate_hz=OWN[0].rate_hz * 1.001)
    assert matched(OWN, CLASSES, recorded((near, *OWN[1:]))).modalities == OWN


def test_channels_without_names_are_taken_by_their_place():
    named = (dataclasses.replace(OWN[0], channels=tuple("xyz")), *OWN[1:])
    unnamed = (dataclasses.replace(OWN[0], channels=("c0", "c1", "c2")), *OWN[1:])
    assert matched(named, CLASSES, recorded(unnamed)).modalities == named
    assert matched(unnamed, CLASSES, recorded(named)).modalities == unnamed


def test_gaps_that_the_model_never_saw_make_the_sensor_absent_there(capsys):
    x = WINDOWS.raw[NAMES[0]].copy()
    x[5, 0] = np.nan
    x[6] = np.nan
    gappy = (dataclasses.replace(OWN[0], may_miss=True), *OWN[1:])
    windows = recorded(gappy, raw={**WINDOWS.raw, NAMES[0]: x})
    sure = (dataclasses.replace(OWN[0], may_miss=False), *OWN[1:])
    found = matched(sure, CLASSES, windows)
    assert list(np.flatnonzero(~found.present[:, 0])) == [5, 6]
    assert "1 windows have gaps" in capsys.readouterr().err
    assert matched(gappy, CLASSES, windows).present[5, 0]
