from __future__ import annotations

import json

import pytest

from sentryfuse.data import list_data, open_data, save_windows, synthetic_wearable
from sentryfuse.errors import DataError


def test_everything_listed_opens_under_its_name_with_the_listed_modalities():
    for entry in json.loads(json.dumps(list_data())):
        windows = open_data(entry["name"])
        assert windows.name == entry["name"]
        assert list(windows.names) == [m["name"] for m in entry["modalities"]]
        assert windows.licence == entry["licence"]


def test_a_path_opens_the_file(tmp_path):
    save_windows(tmp_path / "mine.npz", synthetic_wearable(n_people=3, windows_per_person=8))
    assert open_data(tmp_path / "mine.npz").name == "mine"
    assert len(open_data(str(tmp_path / "mine.npz"))) == 24


def test_an_unknown_name_is_answered_with_what_there_is():
    with pytest.raises(DataError, match=r"'waerable'.*wearable"):
        open_data("waerable")
