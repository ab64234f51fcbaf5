from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sentryfuse"
FILES = sorted(PACKAGE.rglob("*.py"))

# From left to right; a room imports its own files and rooms to its left. Rooms in one row know
# each other only on the ground.
ORDER = (
    {"types", "target", "errors", "files", "progress", "machine", "register"},
    {"planning", "statistics"},
    {"data", "power", "gate"},
    {"stream", "readout", "recordings"},
    {"graph"},
    {"model", "bundle"},
    {"pruning", "engine"},
    {"training", "runtime", "measure", "decide"},
    {"export", "report"},
    {"study", "rivals", "sklearn"},
    {"serve"},
    {"cli"},
    {"__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# What a device runs. A room's name stands for all its files.
LIGHT = (
    *ORDER[0],
    "planning",
    "data",
    "recordings",
    "power",
    "statistics",
    "readout",
    "stream",
    "gate.predict",
    "graph",
    "bundle",
    "engine",
    "runtime",
    "measure",
    "report",
    "serve",
    "cli",
    "__main__",
)

# What the extra `serve` brings; its room is imported when `--serve` is asked for.
SERVE = ("starlette", "uvicorn", "prometheus_client")

# Names that read code or objects out of files.
UNSAFE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "torch.save"}


def module_of(path: Path) -> str:
    """Dotted name inside the package: `data/npz.py` -> `data.npz`, `run/__init__.py` -> `run`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[0]


def is_within(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def is_light(module: str) -> bool:
    # Importing `gate.predict` runs `gate/__init__.py` first, so that must be light as well.
    return is_within(module, LIGHT) or any(name.startswith(f"{module}.") for name in LIGHT)


LIGHT_FILES = [path for path in FILES if not module_of(path) or is_light(module_of(path))]


def imports(tree: ast.AST, *, lazy: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every import as (module, names taken from it), type-checking blocks left out.

    Args:
        tree: where to look.
        lazy: also inside functions.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room"
            yield node.module or "", tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(other, lazy=lazy)
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, lazy=lazy)


def own_imports(tree: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Modules of this package that are imported, dotted, without `sentryfuse.`."""
    for module, names in imports(tree, lazy=lazy):
        if room_of(module) != "sentryfuse":
            continue
        inside = module.removeprefix("sentryfuse").removeprefix(".")
        as_modules = [f"{inside}.{name}".removeprefix(".") for name in names]
        found = [name for name in as_modules if is_file(name)]
        if not names or (inside and len(found) < len(names)):
            found.append(inside)
        # `from sentryfuse import load_windows` goes around the rooms; "" has no rank and fails.
        yield from found or [""]


def is_file(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def forbidden(tree: ast.AST) -> list[str]:
    """What a source does that could run code hidden in a file."""
    found = [
        f"import {module}"
        for module, names in imports(tree, lazy=True)
        if room_of(module) in UNSAFE_MODULES or (module == "torch" and {"load", "save"} & {*names})
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            found.append(ast.unparse(node.func))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found += ["allow_pickle"] * (ast.unparse(node.value) != "False")
    return found


@cache  # three laws look at each file
def read(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_rooms_to_its_left_only(path):
    room = room_of(module_of(path))
    if not room:
        return  # the package itself shows the public names of every room
    assert room in RANK, f"room {room} has no place in ORDER"
    wrong = [
        other
        for other in own_imports(read(path), lazy=True)
        if room_of(other) != room
        and not (RANK[room] == 0 == RANK.get(room_of(other)))
        and RANK.get(room_of(other), len(ORDER)) >= RANK[room]
    ]
    assert not wrong, f"{path.name} imports from its right: {wrong}"


@pytest.mark.parametrize("path", LIGHT_FILES, ids=module_of)
def test_the_device_side_imports_no_torch_and_no_file_that_does(path):
    tree = read(path)
    for module, _ in imports(tree, lazy=False):
        assert room_of(module) not in {"torch", "onnxscript"}
    # Commands of the workstation load the heavy rooms when they run; the device side never does.
    lazy = room_of(module_of(path)) not in {"", "cli", "__main__"}
    heavy = [other for other in own_imports(tree, lazy=lazy) if not is_light(other)]
    assert not heavy, f"{path.name} imports {heavy}, which need torch"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_file_can_run_code_from_data(path):
    assert forbidden(read(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "eval('1')",
        "exec('1')",
    ],
)
def test_code_from_data_would_be_found(source):
    assert len(forbidden(ast.parse(source))) == 1


@pytest.mark.parametrize("source", ["model.eval()", "np.load(x, allow_pickle=False)", "'pickle'"])
def test_harmless_words_are_not_taken_for_code_from_data(source):
    assert forbidden(ast.parse(source)) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from sentryfuse import types", ["types"]),
        ("from sentryfuse import load_windows", [""]),
        ("from sentryfuse.planning.plan import plan", ["planning.plan"]),
        ("def f():\n    import sentryfuse.cli", ["cli"]),
        ("if TYPE_CHECKING:\n    import sentryfuse.cli", []),
        ("import numpy", []),
    ],
)
def test_imports_of_this_package_are_found(source, expected):
    assert [*own_imports(ast.parse(source), lazy=True)] == expected


def test_the_runtime_loads_no_torch():
    done = run_python(
        "import sys, sentryfuse, sentryfuse.runtime, sentryfuse.bundle\n"
        "sys.exit('torch is loaded' if 'torch' in sys.modules else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_the_whole_device_side_works_where_torch_does_not_exist():
    modules = [f"sentryfuse.{module_of(path)}".rstrip(".") for path in LIGHT_FILES]
    done = run_python(
        "import importlib, sys\n"
        "sys.modules['torch'] = sys.modules['onnxscript'] = None\n"
        f"for name in {modules!r}:\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        f"        if not name.startswith('sentryfuse.serve') or error.name not in {SERVE!r}: raise"
    )
    assert done.returncode == 0, done.stderr
