"""The lower bounds of dependencies are the versions that `make lowest` installs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ELSEWHERE = {"openvino", "ray"}  # extras that `make lowest` does not install
ASKED = sorted(
    {
        text
        for texts in (PROJECT["dependencies"], *(EXTRAS[name] for name in EXTRAS if name != "all"))
        for text in texts
    }
)


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {package: Version(version) for package, version in pairs}


LOWEST, TESTED = pins("constraints-lowest.txt"), pins("constraints.txt")


@pytest.mark.parametrize("text", ASKED)
def test_every_lower_bound_is_installed_by_make_lowest_and_every_pin_is_allowed(text):
    asked = Requirement(text)
    bounds = [Version(part.version) for part in asked.specifier if part.operator == ">="]
    assert len(bounds) == 1, f"{text} has no lower bound"
    if asked.name in TESTED:
        assert TESTED[asked.name] in asked.specifier
    if asked.name not in ELSEWHERE:
        assert LOWEST[asked.name] == bounds[0]


def test_the_oldest_versions_are_no_newer_than_those_of_the_release():
    newer = [name for name, version in LOWEST.items() if name in TESTED and version > TESTED[name]]
    assert not newer
