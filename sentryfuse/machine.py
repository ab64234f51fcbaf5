"""Where numbers are made: this processor, and the versions of what matters here."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "onnxruntime", "openvino", "torch")


def machine() -> dict[str, Any]:
    """Where numbers were made: `machine` (processor, cores), and `versions` of what matters."""
    versions = {"sentryfuse": own_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not installed here, so it made no number
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": versions,
    }


def own_version() -> str:
    """Version of this package, also where it runs without being installed."""
    return str(vars(sys.modules["sentryfuse"])["__version__"])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()
