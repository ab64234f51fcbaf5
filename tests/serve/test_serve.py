"""The story of `run --serve`: a real run in a real process, asked over HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("starlette", reason="starlette is not installed; pip install 'sentryfuse[serve]'")
from prometheus_client.parser import text_string_to_metric_families

from sentryfuse.bundle import load_bundle
from sentryfuse.runtime import Status
from sentryfuse.serve.address import Access
from tests.rewritten import favour, overflowing
from tests.serve.served import BUNDLE, TOKEN, ended, started
from tests.tiny import NAMES, tiny_windows

pytestmark = pytest.mark.device


def test_a_run_tells_health_metrics_and_answers(serve):
    run = serve("--ratio", "0.5")
    assert run.ask("healthz")[::2] == (200, "ok\n")
    assert run.ask("readyz")[::2] == (200, "ok\n")
    run.wait(lambda: run.latest()["window_id"] >= 20)
    told = json.loads(run.ask("v1/answers?n=7")[2])
    assert len(told) == 7
    metrics = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(run.ask("metrics")[2])
        for sample in family.samples
    }
    *rows, summary = run.end()
    assert told == rows[told[0]["window_id"] :][:7]
    assert summary["stopped"] == "SIGTERM"
    assert [row["window_id"] for row in rows] == list(range(len(rows)))
    counts = [metrics["sentryfuse_windows_total", str(status)] for status in Status]
    assert 20 < sum(counts) <= len(rows)
    assert metrics["sentryfuse_latency_seconds_count",] == sum(counts)
    assert metrics["sentryfuse_latency_seconds_bucket", "+Inf"] == sum(counts)
    assert metrics["sentryfuse_plan_macs",] in {row["macs"] for row in rows[10:]}
    assert metrics["sentryfuse_plan_macs",] < metrics["sentryfuse_plan_dense_macs",]
    assert metrics["sentryfuse_budget", "ratio"] == 0.5
    assert {name: metrics["sentryfuse_sensor_up", name] for name in NAMES} == dict.fromkeys(NAMES, 1)
    assert metrics["sentryfuse_dropped_windows_total",] == 0
    builds = metrics["sentryfuse_build_seconds_count",]
    assert builds == metrics["sentryfuse_build_seconds_bucket", "+Inf"] >= 1
    assert 0 < metrics["sentryfuse_build_seconds_sum",] < 10 * builds
    assert 0 <= metrics["sentryfuse_queue_windows",] <= 64
    assert 0 <= metrics["sentryfuse_backlog_windows",] <= 64
    outcomes = ("took_over", "refused", "replaced", "rolled_back")
    assert [metrics["sentryfuse_bundles_total", outcome] for outcome in outcomes] == [0] * 4


def test_loopback_without_a_token_reads_and_changes_nothing(serve):
    run = serve()
    code, _, said = run.ask("v1/budget", {"ratio": 0.9}, token=TOKEN)
    assert code == 403
    assert "SENTRYFUSE_SERVE_TOKEN" in said
    assert run.ask("v1/bundle", b"x")[0] == 403
    assert (
        run.ask("v1/answers?n=0")[0]
        == run.ask("v1/answers?n=1e3")[0]
        == run.ask("v1/answers?n=1001")[0]
        == 400
    )
    assert run.ask("v1/nothing")[0] == 404
    code, _, said = run.ask("v1/answers", Host="pages.example")  # a name that was pointed here
    assert (code, "loopback" in said) == (403, True)
    assert run.ask("v1/answers", Host="localhost:1")[0] == 200
    assert run.end()[-1]["events"].get("budget", 0) == 0


def test_other_addresses_are_read_with_the_token_only(serve):
    run = serve(token=True, host="0.0.0.0")
    for path in ("metrics", "v1/answers", "v1/live"):
        code, headers, said = run.ask(path, token="another-token-of-enough-letters")
        assert code == 401
        assert headers["www-authenticate"] == "Bearer"
        assert "Authorization" in said
    assert run.ask(f"v1/answers?token={TOKEN}")[0] == 401
    assert run.ask("v1/budget", {"ratio": 0.9})[0] == 401
    assert run.ask("v1/answers", token=TOKEN)[0] == run.ask("metrics", token=TOKEN)[0] == 200
    assert run.ask("")[0] == run.ask("healthz")[0] == 200  # nothing of the stream is in them
    run.end()


def test_budget_and_sensors_are_changed_under_way(serve):
    run = serve(token=True)
    before = run.latest()["macs"]
    assert json.loads(run.ask("v1/budget", {"ratio": 0.9}, token=TOKEN)[2]) == {"budget": {"ratio": 0.9}}
    run.wait(lambda: run.latest()["macs"] < before)
    assert json.loads(run.ask("v1/present", {"sensors": ["acc"]}, token=TOKEN)[2]) == {"sensors": ["acc"]}
    run.wait(lambda: run.latest()["present"] == ["acc"])
    assert run.latest()["verdicts"] == {"acc": "ok", "temp": "off", "age": "off"}
    assert run.ask("v1/present", {"sensors": None}, token=TOKEN)[0] == 200
    run.wait(lambda: run.latest()["present"] == list(NAMES))
    *rows, summary = run.end()
    assert [row["window_id"] for row in rows] == list(range(len(rows)))
    assert summary["events"]["budget"] == 1
    assert summary["events"]["sensors"] == 2
    assert {row["status"] for row in rows} <= {"OK", "DEGRADED", "STALE"}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("v1/budget", {"ratio": 2}, "outside"),
        ("v1/budget", {"ratio": "0.5"}, "number"),
        ("v1/budget", {"ratio": True}, "number"),
        ("v1/budget", {"watts": 1}, "watts"),
        ("v1/budget", {"latency_ms": 5}, "profile"),
        ("v1/budget", b'{"ratio": NaN}', "outside"),
        ("v1/budget", b'{"macs": 1e999}', "outside"),
        ("v1/budget", b'{"macs": 1' + b"0" * 400 + b"}", "outside"),
        ("v1/budget", {"protocol": "some"}, "some"),
        ("v1/budget", {"memory_mb": -1}, "positive"),
        ("v1/budget", [0.5], "object"),
        ("v1/budget", b"\xff", "object"),
        ("v1/budget", b"[" * 60_000, "object"),
        ("v1/budget", b" " * 70_000, "longer"),
        ("v1/present", {"sensors": ["ecg"]}, "ecg"),
        ("v1/present", {"sensors": []}, "no sensor"),
        ("v1/present", {"sensors": "acc"}, "NAME"),
        ("v1/present", {}, "NAME"),
        ("v1/bundle", b"no bundle", "the bundle that was sent"),
        ("v1/bundle", b"", "the bundle that was sent"),
    ],
)
def test_what_means_nothing_is_one_sentence_and_changes_nothing(asked, path, body, said):
    code, _, text = asked.ask(path, body, token=TOKEN)
    assert code == 400, text
    assert said in json.loads(text)["error"]
    assert "\n" not in json.loads(text)["error"]
    assert "off" not in asked.latest()["verdicts"].values()
    assert 'sentryfuse_budget{limit="ratio"} 0.0' in asked.ask("metrics")[2]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    yield from ended(started(tmp_path_factory.mktemp("asked"), token=True, speed=5))


def test_each_bundle_that_is_sent_takes_over_and_no_window_is_lost(serve, tmp_path):
    run = serve(token=True, speed=40)
    sent = [favour(tmp_path / f"{k}.bundle", 0.3 * (k + 1)) for k in range(4)]
    told = []
    for path in sent:
        code, _, said = run.ask("v1/bundle", path.read_bytes(), token=TOKEN)
        assert code == 200, said
        told.append(json.loads(said))
    broken = bytearray(BUNDLE.read_bytes())
    broken[len(broken) // 2] ^= 1
    code, _, said = run.ask("v1/bundle", bytes(broken), token=TOKEN)
    assert (code, "the bundle that was sent" in said) == (400, True)
    state = json.loads(run.ask("v1/bundle")[2])
    assert state["probation"]["back_to"] == load_bundle(BUNDLE).digest[:12]
    assert [each["outcome"] for each in state["offers"]] == ["took_over"] * 4 + ["refused"]
    assert state["offers"][:4] == told
    assert 'sentryfuse_bundles_total{outcome="took_over"} 4.0' in run.ask("metrics")[2]
    *rows, summary = run.end()
    assert [row["window_id"] for row in rows] == list(range(len(rows)))
    assert [row["bundle"] for row in rows] == [
        next((t["bundle"] for t in told[::-1] if t["window_id"] <= i), load_bundle(BUNDLE).digest[:12])
        for i in range(len(rows))
    ]
    assert [each["bundle"] for each in told] == [load_bundle(path).digest[:12] for path in sent]
    assert (summary["events"]["bundle"], summary["events"]["bundle_refused"]) == (4, 1)
    assert not {"REFUSED", "FAULT"} & set(summary["statuses"])


def test_a_bundle_that_fails_later_is_sent_back_and_told(serve, tmp_path):
    windows = tiny_windows(400)
    windows.raw["acc"][np.arange(400) % 12 > 7] *= 6
    run = serve(token=True, speed=40, windows=windows)
    faulty = overflowing(tmp_path / "f.bundle").read_bytes()
    code, at_once = 0, -1
    while code != 200:  # on a slow machine its first window may be one that it fails on
        at_once += 1
        run.wait(lambda: run.latest()["window_id"] % 12 == 0)
        code, _, said = run.ask("v1/bundle", faulty, token=TOKEN)
        assert code == 200 or json.loads(said)["outcome"] == "rolled_back", said
    run.wait(lambda: f'outcome="rolled_back"}} {at_once + 1}.0' in run.ask("metrics")[2])
    offer = json.loads(run.ask("v1/bundle")[2])["offers"][-1]
    assert offer["outcome"] == "rolled_back"
    assert offer["window_id"] % 12 > 7
    *rows, summary = run.end()
    assert [row["window_id"] for row in rows] == list(range(len(rows)))
    assert set(summary["statuses"]) <= {"OK", "DEGRADED"}
    assert rows[offer["window_id"]]["bundle"] == rows[0]["bundle"]
    assert rows[offer["window_id"] - 1]["bundle"] == offer["bundle"]
    assert summary["events"]["roll_back"] == at_once + 1


@pytest.mark.slow
def test_a_bundle_waits_for_a_window_and_a_later_one_takes_its_place(serve, tmp_path):
    run = serve(token=True, speed=0.4)  # a window in ten seconds
    told = {}

    def send(name):
        body = favour(tmp_path / f"{name}.bundle", len(name)).read_bytes()
        told[name] = run.ask("v1/bundle", body, token=TOKEN)

    first = threading.Thread(target=send, args=("a",))
    first.start()
    run.wait(lambda: json.loads(run.ask("v1/bundle")[2])["offers"])
    second = threading.Thread(target=send, args=("bb",))
    second.start()
    first.join(20)
    assert told["a"][0] == 409
    said = json.loads(told["a"][2])
    assert (said["outcome"], "a later offer" in said["error"]) == ("replaced", True)
    run.end()
    second.join(20)
    assert told["bb"][0] in (202, 400)  # it waits still, or hears that the run has ended


def test_where_a_key_is_asked_for_a_bundle_comes_with_its_signature(serve, tmp_path):
    signing = pytest.importorskip("sentryfuse.bundle.signature")
    pytest.importorskip("cryptography", reason="signing is an extra; pip install 'sentryfuse[sign]'")
    for name in ("ours", "theirs"):
        signing.write_keys(tmp_path / name)
    ours, theirs = (signing.read_signer(tmp_path / f"{name}.pem") for name in ("ours", "theirs"))
    content = BUNDLE.read_bytes()
    (tmp_path / "m.bundle").write_bytes(content)
    ours.write(tmp_path / "m.bundle", ours.line(content))
    run = serve("--verify", str(tmp_path / "ours.pub.pem"), token=True, bundle=tmp_path / "m.bundle")
    other = favour(tmp_path / "other.bundle", 0.5).read_bytes()

    def send(body, line=None):
        headers = {} if line is None else {"Sentryfuse-Signature": line.strip()}
        code, _, said = run.ask("v1/bundle", body, token=TOKEN, **headers)
        return code, json.loads(said).get("error", "")

    for body, line, words in (
        (other, None, "is not signed; send the line of its .sig in the header Sentryfuse-Signature"),
        (other, theirs.line(other), "signed with another key"),
        (other, ours.line(content), "is not what was signed"),
        (other, "nonsense", "a damaged signature in the header"),
        (other, "", "a damaged signature in the header"),
        (other[:-1], ours.line(other), "is not what was signed"),
    ):
        code, error = send(body, line)
        assert (code, words in error, str(tmp_path) in error) == (403, True, False), error
        assert "\n" not in error
    assert send(other[:-1], ours.line(other[:-1]))[0] == 400  # signed, and damaged before that
    assert send(other, ours.line(other)) == (200, "")
    *rows, summary = run.end()
    assert {row["bundle"] for row in rows} == {
        load_bundle(path).digest[:12] for path in (BUNDLE, tmp_path / "other.bundle")
    }
    assert summary["events"]["bundle_refused"] == 7


def test_windows_stay_in_order_with_20_clients_that_follow_and_one_that_does_not_read(serve):
    run = serve(speed=80)
    heard: list[list[int]] = [[] for _ in range(20)]
    stopped = threading.Event()

    def follow(windows):
        with urllib.request.urlopen(run.url + "v1/live", timeout=20) as stream:
            for line in stream:
                if line.startswith(b"data: ") and b"windows" in line:
                    windows += [row["window_id"] for row in json.loads(line[6:])["windows"]]
                if stopped.is_set() and line.startswith(b"event: end"):
                    return

    clients = [threading.Thread(target=follow, args=(windows,), daemon=True) for windows in heard]
    for client in clients:
        client.start()
    host, port = run.url[7:-1].split(":")
    with socket.create_connection((host, int(port))) as lazy:
        lazy.sendall(b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        run.wait(lambda: run.latest()["window_id"] >= 25)
        stopped.set()
        began = time.monotonic()
        *rows, summary = run.end()
        assert time.monotonic() - began < 10
    for client in clients:
        client.join(10)
        assert not client.is_alive()
    assert [row["window_id"] for row in rows] == list(range(len(rows)))
    assert summary["dropped_windows"] == 0
    for windows in heard:
        assert windows == list(range(windows[0], windows[-1] + 1))
        assert len(windows) >= 15


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic " + TOKEN, TOKEN, "Bearer \xe9"])
def test_a_header_without_the_token_opens_nothing(header):
    assert not Access(False, TOKEN).knows(header)
    assert not Access(True).knows("Bearer None")
    assert TOKEN not in repr(Access(False, TOKEN))
    assert Access(False, TOKEN).knows(f"Bearer {TOKEN}")


def test_what_a_meter_tells_is_told(serve, tmp_path):
    trace = tmp_path / "charge.csv"
    trace.write_text("time_s,charge\n0,0.75\n100000,0.75\n", encoding="utf-8")
    run = serve("--trace", str(trace))
    run.wait(lambda: "sentryfuse_charge_ratio" in run.ask("metrics")[2])
    assert 'sentryfuse_charge_ratio{label="replayed"} 0.75' in run.ask("metrics")[2]
    run.end()
