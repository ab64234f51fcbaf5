from __future__ import annotations

import sys

import pytest

from sentryfuse.errors import ConfigError, DataError
from sentryfuse.stream import open_source
from tests.stream.feeding import FAST, OTHER

pytestmark = pytest.mark.device


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no kind"),
        ("recording.npz", "no kind"),
        ("http://example.org", "'http' is unknown"),
        ("replay:", "no file"),
        ("replay:wearable?speeed=1", "'speeed' is unknown"),
        ("replay:wearable?speed=1&speed=2", "twice"),
        ("replay:wearable?speed=fast", "not a number"),
        ("replay:wearable?speed", "name=value"),
        ("mqtt:localhost", "no host"),
        ("mqtt://", "no host"),
        ("mqtt://localhost:http/lab", "port"),
        ("mqtt://localhost:99999/lab", "port"),
        ("mqtt://localhost/a+b", "topic"),
        ("mqtt://localhost/lab?timeout_s=0", "timeout_s"),
        ("mqtt://localhost/lab?quality=1", "'quality' is unknown"),
        ("lsl:?timeout_s=-1", "timeout_s"),
        ("lsl:?timeout_s=nan", "timeout_s"),
    ],
)
def test_a_url_that_means_nothing_is_refused_in_one_sentence(url, said):
    for module in ("mqtt", "lsl"):
        if url.startswith(f"{module}:"):
            pytest.importorskip({"mqtt": "paho.mqtt", "lsl": "pylsl"}[module])
    with pytest.raises(ConfigError, match=said) as caught:
        open_source(url, (FAST, OTHER))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_a_data_error():
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        open_source("replay:nowhere.npz", (FAST,))
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        open_source("replay:nowhere.csv", (FAST,))


def test_no_modality_is_refused():
    with pytest.raises(ConfigError, match="at least one modality"):
        open_source("replay:wearable", ())


@pytest.mark.parametrize(
    ("url", "module", "extra"), [("mqtt://h/p", "paho", "mqtt"), ("lsl:", "pylsl", "lsl")]
)
def test_a_missing_extra_is_named(url, module, extra, monkeypatch):
    for name in [*sys.modules]:
        if name == module or name.startswith(f"{module}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"sentryfuse\[{extra}\]"):
        open_source(url, (FAST,))


def test_a_password_is_never_repeated():
    pytest.importorskip("paho.mqtt")
    for url in (
        "mqtt://me:s3cret@127.0.0.1:1/lab?timeout_s=1",
        "mqtt://me:s3cret@host:x/lab",
        "mqtt://me:s3cret@h/l?a=1",
    ):
        with pytest.raises(ConfigError) as caught:
            open_source(url, (FAST,))
        assert "s3cret" not in str(caught.value)
