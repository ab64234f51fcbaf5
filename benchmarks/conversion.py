"""What a trained multi-head model loses when its heads are made to share keys and values, without training.

    python benchmarks/accuracy.py --data ../shared/data --only maestro-dense-dsads-gate-seed0
    python benchmarks/conversion.py --data ../shared/data/dsads.npz --run runs/maestro-dense-dsads-gate-seed0

Scores of the test people before and after `convert_to_gqa`, by number of key/value heads and method. Writes
docs/results/conversion.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import sentryfuse as sf
from sentryfuse.files import write_json

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.0, 0.6)


def main() -> None:
    """Convert, score and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the recording the model was trained on")
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of a model trained with dense attention"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "conversion.json")
    options = parser.parse_args()
    windows = sf.load_windows(options.data)
    model = sf.from_pretrained(options.run)
    heads = max(max(b.groups) + 1 for b in model.layout.blocks.values() if b.kind == "heads")
    rows = [{"n_kv_heads": heads, "method": "trained", "accuracy": accuracy(model, windows)}]
    print(rows[-1], flush=True)
    n = heads // 2
    while n >= 1:
        for method in ("mean", "aligned"):
            made = sf.convert_to_gqa(model, n, windows=windows, method=method)
            rows.append({"n_kv_heads": n, "method": method, "accuracy": accuracy(made.model, windows)})
            print(rows[-1], flush=True)
        n //= 2
    about = model.config.about
    write_json(
        options.out,
        {
            "dataset": windows.name,
            "backbone": model.config.backbone,
            "seed": about.get("seed"),
            "split": "test",
            "ratios": list(RATIOS),
            "rows": rows,
        },
    )


def accuracy(model: sf.SentryModel, windows: sf.Windows) -> list[float]:
    """Of the test windows with all sensors, one number per ratio."""
    return [row["accuracy"] for row in sf.evaluate(model, windows, split="test", ratios=RATIOS)]


if __name__ == "__main__":
    main()
