"""Where a run may be served: anything else is one sentence before the stream begins."""

from __future__ import annotations

import socket
import sys

import pytest

pytest.importorskip("starlette", reason="starlette is not installed; pip install 'sentryfuse[serve]'")

from sentryfuse.cli import main
from sentryfuse.data import save_windows
from sentryfuse.serve.address import TOKEN, TOKEN_FILE, listen, token_of_environment, url_of
from tests.serve.served import BUNDLE
from tests.tiny import tiny_windows

pytestmark = pytest.mark.device


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    for name in (TOKEN, TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:{taken}", "address already in use"),
        ("no-such-host.invalid:8080", "no-such-host.invalid is not known"),
        ("0.0.0.0:0", "needs a token"),
        ("[::]:0", "needs a token"),
        ("8080", "HOST:PORT"),
        (":8080", "HOST:PORT"),
        ("127.0.0.1:", "HOST:PORT"),
        ("127.0.0.1:99999", "HOST:PORT"),
        ("127.0.0.1:-1", "HOST:PORT"),
        ("::1:8080", "HOST:PORT"),
        ("192.0.2.1:0", "token"),
    ],
)
def test_an_address_that_cannot_be_served_is_one_sentence(address, said, taken, tmp_path, capsys):
    recording, events = tmp_path / "recording.npz", tmp_path / "events.jsonl"
    save_windows(recording, tiny_windows(20))
    where = address.format(taken=taken)
    argv = ["run", str(BUNDLE), "--source", f"replay:{recording}", "--events", str(events), "--serve", where]
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert said in told.err
    assert told.out == events.read_text(encoding="utf-8") == ""


def test_an_address_of_another_machine_is_refused(monkeypatch):
    monkeypatch.setenv(TOKEN, "a-token-of-the-tests")
    with pytest.raises(ValueError, match="choose another host or port"):
        listen("192.0.2.1:0")


def test_a_free_port_is_chosen_and_told():
    heard, access = listen("localhost:0")
    with heard:
        assert access.is_loopback
        assert not url_of(heard).endswith(":0/")


def test_the_token_comes_from_the_environment_or_a_file(monkeypatch, tmp_path):
    assert token_of_environment() is None
    file = tmp_path / "token"
    file.write_text("of-the-file-0123456789\nmore", encoding="utf-8")
    monkeypatch.setenv(TOKEN_FILE, str(file))
    assert token_of_environment() == "of-the-file-0123456789"
    monkeypatch.setenv(TOKEN, "of-the-environment-0123")
    assert token_of_environment() == "of-the-environment-0123"


@pytest.mark.parametrize("token", ["", "short", "with a space in between", "ümlauts-in-a-header-x"])
def test_a_weak_token_is_refused_and_not_shown(token, monkeypatch):
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(ValueError, match="16 or more") as error:
        token_of_environment()
    assert not token or token not in str(error.value)


def test_a_missing_file_of_a_token_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "none"))
    with pytest.raises(ValueError, match="none"):
        token_of_environment()


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_package_is_named_with_the_way_to_get_it(package, monkeypatch, tmp_path, capsys):
    save_windows(tmp_path / "recording.npz", tiny_windows(20))
    for name in [name for name in sys.modules if name.startswith((package, "sentryfuse.serve"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    source = f"replay:{tmp_path / 'recording.npz'}"
    assert main(["run", str(BUNDLE), "--source", source, "--serve", "127.0.0.1:0"]) == 2
    assert "pip install 'sentryfuse[serve]'" in capsys.readouterr().err
