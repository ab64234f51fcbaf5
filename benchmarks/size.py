"""What a device has to hold: size of an environment with sentryfuse and nothing else, by package.

    python benchmarks/size.py        about a minute; needs a package index

Makes a virtual environment in a temporary folder, installs this checkout without extras, and adds up what pip
brought. Writes docs/results/size.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from sentryfuse.files import write_json

ROOT = Path(__file__).resolve().parent.parent
LISTING = """
import importlib.metadata as m, json
sizes = {d.name.lower(): sum(f.locate().stat().st_size for f in d.files or () if f.locate().is_file())
         for d in m.distributions()}
print(json.dumps(sizes))
"""


def main() -> None:
    """Install, add up, write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "size.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt", ROOT]
        subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
        found = subprocess.run([python, "-c", LISTING], check=True, capture_output=True, text=True)
    sizes = {
        name: n / 1e6 for name, n in json.loads(found.stdout).items() if name not in ("pip", "setuptools")
    }
    result = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "total_mb": sum(sizes.values()),
        "packages_mb": dict(sorted(sizes.items(), key=lambda item: -item[1])),
    }
    print(json.dumps(result, indent=1))
    write_json(options.out, result)


if __name__ == "__main__":
    main()
