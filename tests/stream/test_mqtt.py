"""Against a real Mosquitto broker of our own, on a free port."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

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
    config.write_text(f"listener {port} 127.0.0.1\n{rules}\n")
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
        assert counts["acc"] == {"malformed": len(bad), "dropped": 0}
        assert counts["gyro"]["malformed"] == 1


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
    assert source.read(0.2) == []
    with broker(tmp_path, port), publisher(port) as send:
        packets: list[Packet] = []
        until = time.monotonic() + 20
        while not packets and time.monotonic() < until:
            send("lab/acc", good)
            packets = source.read(0.2)
        assert packets
    source.close()


def test_nobody_there_and_refusals_are_sentences(tmp_path):
    port = free_port()
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be reached"):
        open_source(f"mqtt://127.0.0.1:{port}/lab?timeout_s=2", (FAST,))
    with (
        broker(tmp_path, port, "allow_anonymous false"),
        pytest.raises(ConfigError, match="refused") as caught,
    ):
        open_source(f"mqtt://me:s3cret@127.0.0.1:{port}/lab?timeout_s=5", (FAST,))
    assert "s3cret" not in str(caught.value)


def test_someone_who_speaks_no_mqtt_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port, started = mute.getsockname()[1], time.monotonic()
        with pytest.raises(ConfigError, match="no answer"):
            open_source(f"mqtt://127.0.0.1:{port}/lab?timeout_s=0.5", (FAST,))
        assert time.monotonic() - started < 5
