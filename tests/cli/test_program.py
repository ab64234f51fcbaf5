"""The real program in a process of its own, and what its help promises."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer

from sentryfuse import __version__
from sentryfuse.cli import app, main
from sentryfuse.progress import say

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "bench", "compare", "data describe", "data guess", "data list", "data make",
    "demo", "evaluate", "export", "keys", "plan", "predict",
    "profile", "prune", "report", "run", "study", "train",
]  # fmt: skip


def sentryfuse(*argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "sentryfuse", *map(str, argv)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def leaves(group, prefix=""):
    for name, entry in group.commands.items():
        if hasattr(entry, "commands"):
            yield from leaves(entry, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", entry


def test_the_commands_are_those_that_are_documented():
    assert sorted(name for name, _ in leaves(typer.main.get_command(app))) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_has_help(name):
    entry = dict(leaves(typer.main.get_command(app)))[name]
    assert entry.help
    options = {option: p for p in entry.params for option in p.opts}
    assert {"--json", "--quiet"} <= options.keys()
    assert all(p.help for p in entry.params), [p.name for p in entry.params if not p.help]


def test_it_says_which_versions_run(capsys):
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"sentryfuse {__version__} (python ")
    assert f"onnxruntime {metadata.version('onnxruntime')}" in said


def test_help_loads_nothing_heavy():
    heavy = [
        "torch",
        "numpy",
        "onnx",
        "onnxruntime",
        "pydantic",
        "rich",
        "matplotlib",
        "safetensors",
    ]
    code = (
        "import sys\nfrom sentryfuse.cli import main\nassert main(['--help']) == 0\n"
        f"sys.exit(' '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: sentryfuse" in done.stdout


def test_predict_and_plan_work_where_torch_does_not_exist(recording, bundle):
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['onnxscript'] = None\n"
        "from sentryfuse.cli import main\n"
        f"assert main(['plan', {str(bundle)!r}, '--ratio', '0.6', '--quiet']) == 0\n"
        f"sys.exit(main(['predict', {str(bundle)!r}, '--data', {str(recording)!r}, '--json', '-']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"][0]["n_windows"] > 0
    scored = code.replace("'predict'", "'evaluate'")
    again = subprocess.run(
        [sys.executable, "-c", scored], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_a_quiet_command_does_not_silence_the_process_it_ran_in(capsys):
    assert main(["data", "list", "--quiet"]) == 0
    capsys.readouterr()
    say("what the caller does next")
    assert capsys.readouterr().err == "what the caller does next\n"


def test_the_program_answers_bad_input_with_one_line_and_exit_code_2(tmp_path):
    done = sentryfuse("predict", tmp_path / "none.bundle", "--data", "wearable")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_nobody_reading_our_output_is_no_traceback():
    command = f"{sys.executable} -m sentryfuse data describe wearable --json - | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")
