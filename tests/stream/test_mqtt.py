"""Against a real Mosquitto broker of our own, on a free port."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import struct
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.stream import Cutter, Packet, open_source
from sentryfuse.stream.mqtt import QUEUE_BYTES, QUEUE_MESSAGES
from sentryfuse.stream.payload import MAX_PAYLOAD
from tests.stream.feeding import FAST, OTHER, STATIC, stream, verdicts

MOSQUITTO = shutil.which(
    "mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"
)
pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'sentryfuse[mqtt]'")
pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto broker here; apt-get install mosquitto"),
]

SENSORS = (FAST, OTHER, STATIC)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def broker(folder: Path, port: int, rules: str = "allow_anonymous true"):
    """A broker that answers at once, and is gone at the end."""
    config = folder / "mosquitto.conf"
    # started by root it would give up its rights, and not read what a test has made
    config.write_text(f"user {getpass.getuser()}\nlistener {port} 127.0.0.1\n{rules}\n")
    with subprocess.Popen([str(MOSQUITTO), "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def publisher(port):
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield lambda topic, payload, **more: client.publish(topic, payload, qos=1, **more).wait_for_publish(
            10
        )
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    port = free_port()
    with broker(tmp_path_factory.mktemp("broker"), port):
        yield port


@pytest.fixture
def publish(running):
    with publisher(running) as send:
        yield send


def as_live(source: Any) -> Any:
    """The source with what live ones have to tell beside samples."""
    return source


def read(source, n, seconds=10.0):
    """Packets until there are `n`, and what comes right after them."""
    packets: list[Packet] = []
    until = time.monotonic() + seconds
    while len(packets) < n and time.monotonic() < until:
        packets += source.read(0.1)
    return packets + source.read(0.05)


def dropped(source, n, seconds=20.0):
    """How many messages were dropped, once there are so many or some time is over."""
    until = time.monotonic() + seconds
    while source.counters()["acc"]["dropped"] < n and time.monotonic() < until:
        time.sleep(0.02)
    return source.counters()["acc"]["dropped"]


def as_text(packet):
    return json.dumps({"t": packet.times_s.tolist(), "values": packet.values.tolist()})


def as_binary(packet):
    return struct.pack("<d", packet.times_s[0]) + packet.values.astype("<f4").tobytes()


def test_samples_arrive_as_they_were_sent(running, publish):
    with open_source(f"mqtt://127.0.0.1:{running}/lab/a", SENSORS) as source:
        before = source.now_s()
        (text,), (binary,) = stream(FAST, 0.1, size=10), stream(OTHER, 0.2, size=10, clock=1.7e9)
        publish("lab/a/acc", as_text(text))
        publish("lab/a/gyro/f32", as_binary(binary))
        publish("lab/a/age", json.dumps({"values": [40, 70]}))
        publish("lab/a/ecg", json.dumps({"values": [1]}))  # nobody asked
        publish("lab/b/acc", as_text(text))
        given = {p.modality: p for p in read(source, 3)}
        assert set(given) == {"acc", "gyro", "age"}
        assert not source.ended
        for sent in (text, binary):
            assert sent.times_s is not None
            got = given[sent.modality]
            assert np.array_equal(got.values, sent.values)
            assert got.times_s is not None
            assert np.allclose(got.times_s, sent.times_s, rtol=0, atol=1e-6)
            assert before < got.received_s <= source.now_s()
        assert given["age"].times_s is None
    assert source.ended
    source.close()


def test_windows_are_cut_from_a_broker(running, publish):
    cutter = Cutter((FAST, OTHER), wait_s=3.0)
    packets = stream(FAST, 4, size=100, clock=55.5) + stream(OTHER, 4, size=50)
    packets.sort(key=lambda p: p.received_s)
    windows = []
    with open_source(f"mqtt://127.0.0.1:{running}/lab/c", (FAST, OTHER)) as source:
        begin = source.now_s()
        for p in packets:
            while source.now_s() < begin + p.received_s:
                cutter.push(source.read(0.02))
            publish(f"lab/c/{p.modality}/f32", as_binary(p))
            windows += cutter.cut(source.now_s())
        while len(windows) < 2 and source.now_s() < begin + 20:
            cutter.push(source.read(0.05))
            windows += cutter.cut(source.now_s())
    assert verdicts(windows[:2], "acc") == verdicts(windows[:2], "gyro") == ["ok", "ok"]
    for w in windows[:2]:
        assert np.allclose(np.diff(w.values["acc"][0, :, 0]), 0.01, atol=1e-3)
        assert abs(w.values["acc"][0, 0, 0] - w.values["gyro"][0, 0, 0]) < 0.1


def test_messages_that_make_no_sense_are_counted_and_nothing_stops(running, publish):
    good = stream(FAST, 0.1, size=10)[0]
    with open_source(f"mqtt://127.0.0.1:{running}/lab/d", SENSORS) as source:
        bad = [b"", b"{", b'{"values": "x"}', b'{"values": [[1, 2]]}', bytes(MAX_PAYLOAD + 1)]
        for payload in bad:
            publish("lab/d/acc", payload)
        publish("lab/d/gyro/f32", b"12345678abc")
        publish("lab/d/acc", as_text(good))
        packets = read(source, 1)
        assert [p.modality for p in packets] == ["acc"]
        counts = source.counters()
        assert counts["acc"] == {"malformed": len(bad), "dropped": 0, "retained": 0}
        assert counts["gyro"]["malformed"] == 1
        told = {facts["sensor"]: facts["reason"] for facts in as_live(source).news()}
        assert set(told) == {"acc", "gyro"}
        assert "lab/d/acc is not understood" in told["acc"]
        assert as_live(source).unread().keys() == told.keys()
        publish("lab/d/acc", b"{")
        assert read(source, 1, 0.5) == []
        assert as_live(source).news() == []  # once is enough


def test_who_does_not_read_loses_the_oldest_and_memory_is_bounded(running, publish):
    with open_source(f"mqtt://127.0.0.1:{running}/lab/e", (FAST,)) as source:
        for k in range(QUEUE_MESSAGES + 200):
            publish("lab/e/acc", json.dumps({"t": k, "values": [k, 0, 0]}))
        assert dropped(source, 200) == 200
        packets = source.read(0.0)
        assert len(packets) == QUEUE_MESSAGES
        assert [int(p.values[0, 0]) for p in packets] == list(range(200, QUEUE_MESSAGES + 200))
        large = struct.pack("<d", 0.0) + np.zeros((20_000, 3), "<f4").tobytes()
        for _ in range(QUEUE_BYTES // len(large) + 10):
            publish("lab/e/acc/f32", large)
        assert dropped(source, 210) >= 210
        assert sum(p.values.nbytes for p in source.read(0.0)) <= QUEUE_BYTES


def test_a_broker_that_comes_back_is_taken_up_again(tmp_path):
    port, good = free_port(), as_text(stream(FAST, 0.1, size=10)[0])
    with broker(tmp_path, port):
        source = open_source(f"mqtt://127.0.0.1:{port}/lab", (FAST,))
        with publisher(port) as send:
            send("lab/acc", good)
        assert len(read(source, 1)) == 1
        assert as_live(source).news() == []
    assert source.read(0.2) == []
    assert "source_lost" in [facts["kind"] for facts in as_live(source).news()]
    with broker(tmp_path, port), publisher(port) as send:
        packets: list[Packet] = []
        until = time.monotonic() + 20
        while not packets and time.monotonic() < until:
            send("lab/acc", good)
            packets = source.read(0.2)
        assert packets
        assert as_live(source).news()[-1]["kind"] == "source_back"
    source.close()


def test_a_broker_that_is_not_there_at_the_start_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("sentryfuse.stream.broker.PATIENCE_S", 0.3)
    port, good = free_port(), as_text(stream(FAST, 0.1, size=10)[0])
    with open_source(f"mqtt://127.0.0.1:{port}/lab", (FAST,)) as source:
        (waiting,) = as_live(source).news()
        assert waiting["kind"] == "source_lost"
        assert "cannot be reached (connection refused)" in waiting["reason"]
        assert source.read(0.0) == []
        with broker(tmp_path, port), publisher(port) as send:
            packets: list[Packet] = []
            until = time.monotonic() + 20
            while not packets and time.monotonic() < until:
                send("lab/acc", good)
                packets = source.read(0.2)
            assert packets
            assert [facts["kind"] for facts in as_live(source).news()] == ["source_back"]


def test_nobody_there_and_refusals_are_sentences(tmp_path):
    port = free_port()
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be reached"):
        open_source(f"mqtt://127.0.0.1:{port}/lab?timeout_s=2", (FAST,))
    with (
        broker(tmp_path, port, "allow_anonymous false"),
        pytest.raises(ConfigError, match=r"refused") as caught,
    ):
        open_source(f"mqtt://me:s3cret@127.0.0.1:{port}/lab?timeout_s=5", (FAST,))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["s3?ret=1", "s3/cret", "12/cret", "s3@cret", "s3#cret", "12?cret"])
def test_no_part_of_a_password_in_a_url_is_repeated(password):
    with pytest.raises(ConfigError) as caught:
        open_source(f"mqtt://me:{password}@127.0.0.1:1/lab?timeout_s=0.2", (FAST,))
    for part in ("s3", "cret", "ret", "12"):
        assert part not in str(caught.value).replace("secret", "").replace("127.0.0.1", "")


def test_a_message_kept_by_the_broker_is_not_fresh(running, publish):
    good = as_text(stream(FAST, 0.1, size=10)[0])
    publish("lab/f/acc", good, retain=True)
    publish("lab/f/age", json.dumps({"values": [40, 70]}), retain=True)
    with open_source(f"mqtt://127.0.0.1:{running}/lab/f", SENSORS) as source:
        assert [p.modality for p in read(source, 2, 1.0)] == ["age"]
        assert source.counters()["acc"] == {"malformed": 0, "dropped": 0, "retained": 1}
        publish("lab/f/acc", good)
        assert [p.modality for p in read(source, 1)] == ["acc"]


def test_a_flood_on_one_topic_leaves_the_others_alone(running, publish):
    with open_source(f"mqtt://127.0.0.1:{running}/lab/g", (FAST, OTHER)) as source:
        publish("lab/g/gyro", json.dumps({"t": 0, "values": [1, 2]}))
        for k in range(QUEUE_MESSAGES + 100):
            publish("lab/g/acc", json.dumps({"t": k, "values": [k, 0, 0]}))
        assert dropped(source, 100) == 100
        assert source.counters()["gyro"]["dropped"] == 0
        assert "gyro" in {p.modality for p in source.read(0.0)}


def test_a_huge_message_never_comes_in(running, publish):
    with open_source(f"mqtt://127.0.0.1:{running}/lab/h", (FAST,)) as source:
        publish("lab/h/acc", bytes(20_000_000))
        publish("lab/h/acc", as_text(stream(FAST, 0.1, size=10)[0]))
        assert len(read(source, 1)) == 1
        assert source.counters()["acc"]["malformed"] == 0


def test_a_group_divides_the_messages(running, publish):
    url = f"mqtt://127.0.0.1:{running}/lab/i?share=ward&qos=1"
    with open_source(url, (FAST,)) as one, open_source(url, (FAST,)) as two:
        for k in range(20):
            publish("lab/i/acc", json.dumps({"t": k, "values": [k, 0, 0]}))
        first, second = read(one, 20, 1.0), read(two, 20, 1.0)
        assert len(first) + len(second) == 20
        assert first
        assert second


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a server's certificate and a client's, as an operator makes them."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    ours = "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=us"
    openssl(folder, *ours.split())
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        asked = f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        signed = f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2"
        openssl(folder, *asked.split())
        openssl(folder, *signed.split(), "-extfile", f"{name}.ext")
    return folder


def tls_rules(folder: Path) -> str:
    files = {"cafile": "ca.crt", "certfile": "server.crt", "keyfile": "server.key"}
    rules = [f"{what} {folder / name}" for what, name in files.items()]
    return "\n".join([*rules, "require_certificate true", "allow_anonymous true"])


# the client leaves a socket to the collector when a handshake fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_with_certificates_of_both_sides(tmp_path, certificates, monkeypatch):
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    port, folder = free_port(), certificates
    pair = f"&cert={folder / 'client.crt'}&key={folder / 'client.key'}"
    with broker(tmp_path, port, tls_rules(folder)):
        url = f"mqtts://127.0.0.1:{port}/lab?timeout_s=5"
        with open_source(f"{url}&ca={folder / 'ca.crt'}{pair}", (FAST,)) as source:
            client = Client(CallbackAPIVersion.VERSION2)
            client.tls_set(str(folder / "ca.crt"), str(folder / "client.crt"), str(folder / "client.key"))
            client.connect("127.0.0.1", port)
            client.loop_start()
            client.publish("lab/acc", as_text(stream(FAST, 0.1, size=10)[0]), qos=1).wait_for_publish(10)
            assert len(read(source, 1)) == 1
            client.disconnect()
            client.loop_stop()
        with pytest.raises(ConfigError, match=r"certificate"):  # the system does not know our authority
            open_source(url + pair, (FAST,))
        with pytest.raises(ConfigError, match=r"cannot be reached|refused"):  # no certificate of our own
            open_source(f"mqtts://127.0.0.1:{port}/lab?timeout_s=2&ca={folder / 'ca.crt'}", (FAST,))
    with pytest.raises(ConfigError, match=r"no file nowhere\.crt for TLS"):
        open_source("mqtts://127.0.0.1/lab?ca=nowhere.crt", (FAST,))
    with pytest.raises(ConfigError, match="belong together"):
        open_source("mqtts://127.0.0.1/lab?cert=a", (FAST,))
    with pytest.raises(ConfigError, match="write mqtts://"):
        open_source("mqtt://127.0.0.1/lab?ca=a", (FAST,))


def test_user_and_password_come_from_the_environment_or_a_file(tmp_path, monkeypatch):
    tool = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if tool is None:
        pytest.skip("no mosquitto_passwd here")
    users = tmp_path / "users"
    subprocess.run([tool, "-b", "-c", str(users), "nurse", "p@ss/w?rd#1"], check=True, capture_output=True)
    port = free_port()
    with broker(tmp_path, port, f"allow_anonymous false\npassword_file {users}"):
        url = f"mqtt://127.0.0.1:{port}/lab?timeout_s=5"
        with pytest.raises(ConfigError, match=r"refused .Not authorized"):
            open_source(url, (FAST,))
        secret = tmp_path / "secret"
        secret.write_text("p@ss/w?rd#1\n")
        open_source(f"{url}&user=nurse&password_file={secret}", (FAST,)).close()
        monkeypatch.setenv("SENTRYFUSE_MQTT_USER", "nurse")
        with pytest.raises(ConfigError, match=r"refused"):
            open_source(url, (FAST,))
        monkeypatch.setenv("SENTRYFUSE_MQTT_PASSWORD", "p@ss/w?rd#1")
        open_source(url, (FAST,)).close()


def test_someone_who_speaks_no_mqtt_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port, started = mute.getsockname()[1], time.monotonic()
        with pytest.raises(ConfigError, match="no answer"):
            open_source(f"mqtt://127.0.0.1:{port}/lab?timeout_s=0.5", (FAST,))
        assert time.monotonic() - started < 5
