"""Files larger than memory: what is held does not grow with the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    "import resource, sys; from sentryfuse.cli import main; "
    "code = main(['data', 'make', sys.argv[1], '--out', sys.argv[2], '--window-s', '2', '--hop-s', '8', "
    "'--quiet']); "
    "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)"
)


def write(path: Path, megabytes: int) -> None:
    """One table of three people and seven channels at 100 Hz."""
    rng = np.random.default_rng(0)
    values = [",".join(f"{v:.5f}" for v in row) for row in rng.normal(size=(10_000, 7))]
    n = megabytes * 14  # in thousands of rows
    with path.open("w") as file:
        file.write("time_ms," + ",".join(f"acc_{i}" for i in range(7)) + ",label,subject\n")
        for k in range(n):
            person, label = k * 3 // n, "abc"[k // 20 % 3]
            file.writelines(
                f"{(k * 1000 + i) * 10},{values[(k * 1000 + i) % 10_000]},{label},p{person}\n"
                for i in range(1000)
            )


@pytest.mark.slow
def test_the_peak_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for megabytes in (50, 400):
        path = tmp_path / f"{megabytes}.csv"
        write(path, megabytes)
        assert path.stat().st_size > megabytes * 0.9e6
        done = subprocess.run(
            [sys.executable, "-c", CODE, path, tmp_path / "m.npz"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        code, peak = done.stdout.split()
        assert code == "0", done.stderr
        peaks.append(float(peak))
        path.unlink()
    # buffers fill up to their limits, and then no more: 350 MB more of file are well below a third of that
    assert peaks[1] - peaks[0] < 250, peaks
