"""Real folders with the files that Linux shows in sysfs, and the ways in which they fail."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RANGE_UJ = 262_143_328_850
NOBODY = 65534


def write(folder: Path, **files: object) -> Path:
    """Files of one device; `None` removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        if value is not None:
            path.write_text(f"{value}\n")
    return folder


def rapl(
    root: Path, number: str = "0", *, name: str = "package-0", energy_uj: object = 0, driver="intel-rapl"
):
    folder = root / "class" / "powercap" / f"{driver}:{number}"
    return write(folder, name=name, energy_uj=energy_uj, max_energy_range_uj=RANGE_UJ)


def ina(root: Path, number: int = 0, **files: object) -> Path:
    files = {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 1000, **files}
    return write(root / "class" / "hwmon" / f"hwmon{number}", name="ina3221", **files)


def battery(root: Path, name: str = "BAT0", /, **files: object) -> Path:
    files = {"type": "Battery", "status": "Discharging", **files}
    return write(root / "class" / "power_supply" / name, **files)


def make_unreadable(path: Path) -> None:
    """EIO: memory of this process at address 0, which the kernel refuses to read."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("only Linux has a file that cannot be read")
    path.unlink()
    path.symlink_to("/proc/self/mem")


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """EACCES: the file is for its owner only, and we are not its owner."""
    is_root = os.geteuid() == 0
    path.chmod(0o600 if is_root else 0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(0o644)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that others may look into, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
