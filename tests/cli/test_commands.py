"""One story per command, through the real entry point."""

from __future__ import annotations

import json

import numpy as np
import pytest

SCORE_KEYS = {
    "present", "missing_rate", "ratio", "protocol", "scorer", "accuracy", "macro_f1", "auroc",
    "nll", "ece", "macs", "params", "n_windows", "n_refused",
}  # fmt: skip
SENSORS = ["wrist_acc", "chest_acc"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_data_list_names_the_embedded_recording(command):
    shown = command("data", "list")
    assert shown.code == 0
    assert "wearable" in shown.out
    told = command("data", "list", "--json", "-")
    assert [entry["name"] for entry in told.json["recordings"]] == ["wearable"]


def test_data_describe_tells_sensors_classes_and_splits_of_a_file(command, recording):
    told = command("data", "describe", recording, "--json", "-").json
    assert [m["name"] for m in told["modalities"]] == SENSORS
    assert told["n_windows"] == 200
    assert sum(split["n_windows"] for split in told["splits"].values()) == 200
    assert "wrist_acc" in command("data", "describe", recording).out


def test_train_leaves_a_folder_with_model_card_and_metrics(run_folder):
    assert sorted(path.name for path in run_folder.iterdir()) == [
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
    ]
    metrics = read(run_folder / "metrics.json")
    assert (metrics["dataset"], metrics["seed"], metrics["settings"]["epochs"]) == ("tiny", 3, 1)
    assert len(metrics["history"]) == 1
    for split in ("validation", "test"):
        assert [row["ratio"] for row in metrics[split]] == [0.0, 0.6]
    assert metrics["seconds"]["train"] > 0
    assert "onnxruntime" in metrics["versions"]
    about = read(run_folder / "config.json")["about"]
    assert about["dataset"] == "tiny"
    assert about["epochs"] == 1


def test_training_again_into_a_finished_folder_is_refused_unless_overwrite(
    command, recording, run_folder, tmp_path
):
    again = command("train", "--data", recording, "--out", run_folder)
    assert again.code == 2
    assert "--overwrite" in again.err
    plain = ["train", "--data", recording, "--epochs", 1, "--elastic", "none", "--fold", "1/5"]
    assert command(*plain, "--out", tmp_path / "run", "--quiet").code == 0
    first = read(tmp_path / "run" / "metrics.json")
    plain = [*plain, "--out", tmp_path / "run"]
    done = command(*plain, "--augment", 0, "--seed", 1, "--overwrite", "--json", "-")
    assert done.code == 0
    assert (done.json["seed"], done.json["settings"]["augment"], first["settings"]["augment"]) == (1, 0, 0.15)
    assert done.json["fold"] == first["fold"] == "1/5"
    assert read(tmp_path / "run" / "metrics.json")["seed"] == 1


def test_evaluate_gives_one_row_per_combination(command, recording, run_folder):
    done = command(
        "evaluate", run_folder, "--data", recording, "--present", "all", "--present", "chest_acc",
        "--ratio", 0, "--ratio", 0.6, "--scorer", "gate", "--scorer", "magnitude",
        "--missing-rate", 0.5, "--json", "-",
    )  # fmt: skip
    assert done.code == 0
    told = done.json
    assert (told["dataset"], told["backbone"], told["split"], told["seed"]) == (
        "tiny",
        "maestro",
        "test",
        3,
    )
    assert len(told["rows"]) == 8
    assert all(set(row) == SCORE_KEYS for row in told["rows"])
    assert told["rows"][0]["present"] == SENSORS
    assert {tuple(row["present"]) for row in told["rows"]} == {tuple(SENSORS), ("chest_acc",)}
    assert {row["missing_rate"] for row in told["rows"]} == {0.5}


def test_plan_of_a_folder_and_of_its_bundle_are_the_same(command, run_folder, bundle):
    asked = ["--present", "chest_acc", "--ratio", 0.5, "--memory-mb", 1.0, "--json", "-"]
    from_folder = command("plan", run_folder, *asked).json
    from_bundle = command("plan", bundle, *asked).json
    assert from_folder == from_bundle
    assert from_folder["asked"] == {"ratio": 0.5, "memory_mb": 1.0}
    assert all(slack >= 0 for slack in from_folder["slack"].values())
    assert from_folder["binding"] in ("ratio", "memory_mb")
    shown = command("plan", bundle, *asked[:-2])
    assert "fusion.0.ffn" in shown.out
    assert "binding: " in shown.out


def test_prune_writes_an_ordinary_smaller_model_and_its_plan(command, recording, run_folder, tmp_path):
    small = tmp_path / "small"
    done = command(
        "prune", run_folder, "--present", "chest_acc", "--ratio", 0.6, "--out", small, "--json", "-"
    )
    assert done.code == 0
    assert read(small / "plan.json")["plan_id"] == done.json["plan_id"]
    small_bytes, all_bytes = ((folder / "model.safetensors").stat().st_size for folder in (small, run_folder))
    assert small_bytes < 0.6 * all_bytes  # one of two encoders is gone as well
    with_units = command("plan", small, "--json", "-").json
    assert with_units["cost"] == done.json["cost"]
    again = command("prune", run_folder, "--ratio", 0.2, "--out", small)
    assert again.code == 2
    assert with_units == command("plan", small, "--json", "-").json


def test_export_says_what_it_checked(bundle):
    facts = read(bundle.with_name("export.json"))
    assert facts["plans"] >= 5
    assert facts["max_difference"] <= 1e-4
    assert facts["bytes"] == bundle.stat().st_size


def test_predict_gives_the_rows_of_evaluate(command, recording, run_folder, bundle):
    asked = ["--data", recording, "--ratio", 0, "--ratio", 0.6, "--present", "chest_acc,wrist_acc"]
    torch = command("evaluate", run_folder, *asked, "--json", "-").json
    assert (
        command("evaluate", bundle, *asked, "--json", "-").json
        == command("predict", bundle, *asked, "--json", "-").json
    )
    device = command("predict", bundle, *asked, "--json", "-").json
    assert torch.keys() == device.keys()
    assert device["seed"] == 3
    for left, right in zip(torch["rows"], device["rows"], strict=True):
        for key in SCORE_KEYS - {"accuracy", "macro_f1", "nll", "ece"}:
            assert left[key] == right[key]
        assert left["nll"] == pytest.approx(right["nll"], abs=1e-3)
        assert 0 <= right["ece"] <= 1
        assert left["accuracy"] == pytest.approx(right["accuracy"], abs=0.02)


def test_bench_times_the_dense_model_beside_every_ratio(command, bundle):
    done = command("bench", bundle, "--ratio", 0.6, "--repeats", 10, "--json", "-")
    assert done.code == 0
    rows = done.json["rows"]
    assert [row["name"] for row in rows] == ["dense", "r0.6"]
    dense, pruned = rows
    assert pruned["macs"] < dense["macs"]
    assert pruned["weights_mb"] < dense["weights_mb"]
    for row in rows:
        assert row["engine"] == "onnxruntime"
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
        assert 0 < row["switch_ms"]["warm"]["p50"] < row["switch_ms"]["cold"]["p50"]
        assert 10 < row["peak_rss_mb"] < 2000


def test_a_profile_of_this_device_lets_plans_hold_milliseconds(command, recording, bundle, tmp_path):
    path = tmp_path / "profile.json"
    done = command("profile", bundle, "--out", path, "--seconds", 1)
    assert done.code == 0
    assert "cold switch" in done.out
    dense = command("plan", bundle, "--profile", path, "--json", "-").json["expected"]["latency_ms"]["p95"]
    device = json.loads(path.read_text())
    asked = 0.97 * dense * device["safe_factor"] / device["p95_factor"]
    made = command("plan", bundle, "--profile", path, "--latency-ms", asked, "--json", "-").json
    assert made["binding"] == "latency_ms"
    assert made["got"]["latency_ms"] < dense
    rows = command(
        "predict", bundle, "--data", recording, "--profile", path, "--latency-ms", asked, "--json", "-"
    ).json["rows"]
    assert rows[0]["macs"] == made["cost"]["macs"]
    refused = command("plan", bundle, "--profile", path, "--latency-ms", 1e-6)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "the readout alone needs" in refused.err
    least = refused.err.rsplit("needs", 1)[1].split()[0]
    alone = command("plan", bundle, "--profile", path, "--latency-ms", least, "--json", "-").json
    assert alone["kept"] == {}
    assert alone["got"]["latency_ms"] <= float(least)


def test_report_makes_a_page_and_markdown_of_evaluations(command, recording, bundle, tmp_path):
    scores, times = tmp_path / "scores.json", tmp_path / "times.json"
    command("predict", bundle, "--data", recording, "--ratio", 0, "--ratio", 0.6, "--json", scores)
    rows = [
        {"name": f"r{r}", "present": SENSORS, "ratio": r, "latency_ms": {"p50": 1.0}, "macs": 5}
        for r in (0.0, 0.6)
    ]
    times.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    done = command("report", scores, times, "--out", tmp_path, "--markdown")
    assert done.code == 0
    assert "| ratio |" in done.out
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    merged = command("report", scores, times, "--markdown", "--json", "-").json
    assert [row["ratio"] for row in merged["evaluation"]["rows"]] == [0.0, 0.6]


def test_quiet_prints_nothing(command, recording, bundle):
    done = command("predict", bundle, "--data", recording, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_json_in_a_file_leaves_the_table_on_standard_output(command, recording, bundle, tmp_path):
    target = tmp_path / "new folder" / "rows.json"
    done = command("predict", bundle, "--data", recording, "--json", target)
    assert "accuracy" in done.out
    assert np.isfinite(read(target)["rows"][0]["accuracy"])
