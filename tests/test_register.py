"""Names from installed packages: real ones, with their entry points, in a folder on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.register import Register

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parent.parent


def install(folder: Path, package: str, group: str, entries: dict[str, str], code: str = "") -> None:
    """What an installer leaves behind: a module, and a folder with the package's name and entry points."""
    (folder / f"{package}.py").write_text(code, encoding="utf-8")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}", encoding="utf-8")


def register() -> Register[str]:
    made: Register[str] = Register("colour", group="tests.colours", decorator="colour")
    made.add("red", "#f00")
    return made


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_name_is_found_and_taken_once():
    colours = register()
    assert colours.find("red") == "#f00"
    assert colours.names() == ["red"]
    with pytest.raises(ConfigError, match="a colour called red exists; register under another name"):
        colours.add("red", "#e00")


def test_an_unknown_name_lists_those_there_are_installed_ones_among_them(path):
    install(path, "tints", "tests.colours", {"mauve": "tints:MAUVE"}, "raise SystemError('not asked for')")
    colours = register()
    assert colours.names() == ["red", "mauve"]
    assert colours.has("mauve")
    assert not colours.has("blue")
    with pytest.raises(ConfigError, match="colour 'blue' is unknown; there is red, mauve"):
        colours.find("blue")


def test_a_name_of_ours_is_never_looked_for_elsewhere(path):
    install(path, "reds", "tests.colours", {"red": "reds:RED"}, "raise SystemError('not asked for')")
    assert register().find("red") == "#f00"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module_anywhere", "offered by the package tints, which cannot be imported"),
        ("1 / 0", "ZeroDivisionError"),
        ("MAUVE = 1", "does not register it; decorate tints:MAUVE with colour"),
        ("", "cannot be imported"),
    ],
)
def test_a_package_that_does_not_keep_its_word_is_named(path, code, said):
    install(path, "tints", "tests.colours", {"mauve": "tints:MAUVE"}, code)
    sys.modules.pop("tints", None)
    with pytest.raises(ConfigError, match=said):
        register().find("mauve")


def test_two_packages_with_one_name_are_both_named(path):
    for package in ("paints", "dyes"):
        install(path, package, "tests.colours", {"mauve": f"{package}:MAUVE"})
    with pytest.raises(ConfigError, match=r"the packages (paints and dyes|dyes and paints) both offer"):
        register().find("mauve")


PARTS = {
    "sentryfuse.engines": (
        "import sentryfuse as sf\n"
        "@sf.register_engine('theirs')\n"
        "class Part:\n    name, fused = 'theirs', True\n",
        "from sentryfuse.engine.engines import find_engine\nassert find_engine('theirs').name == 'theirs'",
    ),
    "sentryfuse.sources": (
        "import sentryfuse as sf\n"
        "@sf.register_source('theirs')\n"
        "def Part(address, modalities, options):\n    return address, dict(options)\n",
        "m = sf.Modality('a', 4.0, 8, ('x',))\n"
        "assert sf.open_source('theirs://host/x?k=1', [m]) == ('//host/x', {'k': '1'})",
    ),
    "sentryfuse.meters": (
        "import sentryfuse as sf\n"
        "from sentryfuse.power import CallbackMeter\n"
        "@sf.register_meter('theirs')\n"
        "def Part(rest, now_s):\n    said = {'power_w': float(rest)}\n"
        "    return CallbackMeter(lambda: said, tells={'power_w'}, label='measured-external', scope='all')\n",
        "assert sf.open_reader('theirs:2.5').read().power_w == 2.5",
    ),
    "sentryfuse.steps": (
        "from sentryfuse.graph import emits\n@emits('theirs')\ndef Part(graph, site, x):\n    return x\n",
        "from sentryfuse.graph.kinds import kind_of\n"
        "from sentryfuse.planning.layout import Step\n"
        "assert kind_of(Step('s', 'theirs', ('a',), 'b')).reads == (1, 1)",
    ),
}


@pytest.mark.parametrize("group", PARTS)
def test_an_installed_part_of_a_device_works_by_name_alone(group, tmp_path):
    part, use = PARTS[group]
    install(tmp_path, "their_parts", group, {"theirs": "their_parts:Part"}, part)
    code = f"import sys\nimport sentryfuse as sf\nassert 'their_parts' not in sys.modules\n{use}\n"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
