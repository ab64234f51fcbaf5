from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import sentryfuse as sf

CONTRACT = (
    "Budget",
    "Plan",
    "create_model",
    "evaluate",
    "export_bundle",
    "from_pretrained",
    "load_bundle",
    "load_windows",
    "plan",
    "prune",
    "train",
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sf.__all__)
def test_every_public_name_resolves(name):
    value = getattr(sf, name)
    assert value is getattr(sf, name), "the second look finds the same"
    assert name in dir(sf)
    assert value.__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("name", CONTRACT)
def test_the_names_other_tools_call_are_public(name):
    assert name in sf.__all__


def test_public_names_are_sorted_and_each_has_a_home():
    assert sf.__all__ == sorted(sf.__all__)
    assert set(sf.__all__) == set(sf._HOMES)


def test_the_short_words_do_what_they_say():
    assert sf.plan is importlib.import_module("sentryfuse.pruning.scorers").make_plan
    assert sf.prune is importlib.import_module("sentryfuse.pruning.cut").prune
    assert callable(sf.train)
    assert callable(sf.predict)
    assert callable(sf.score)


def test_rooms_stay_importable_beside_functions_of_similar_names():
    for name in ("pruning", "training", "runtime", "export", "gate", "model", "data"):
        assert importlib.import_module(f"sentryfuse.{name}").__name__ == f"sentryfuse.{name}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'unheard'"):
        _ = sf.unheard


@pytest.mark.parametrize("room", sorted({*sf._HOMES.values()}))
def test_every_room_exports_what_it_lists(room):
    module = importlib.import_module(f"sentryfuse.{room}")
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None


def test_importing_the_device_side_loads_no_torch():
    code = (
        "import sys, sentryfuse, sentryfuse.runtime, sentryfuse.bundle\n"
        "sentryfuse.load_bundle, sentryfuse.predict, sentryfuse.Budget, sentryfuse.load_windows\n"
        "print('torch' in sys.modules)"
    )
    done = run(code)
    assert done.stdout.strip() == "False", done.stderr


def test_a_name_that_needs_torch_says_so_where_there_is_none():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import sentryfuse\n"
        "try:\n    sentryfuse.train\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    done = run(code)
    assert "sentryfuse[train]" in done.stdout, done.stderr


WITHOUT_TORCH = "import sys\nsys.modules['torch'] = sys.modules['sklearn'] = None\n"


def test_everything_can_be_imported_where_there_is_no_torch():
    code = WITHOUT_TORCH + (
        "from sentryfuse import *\nimport sentryfuse as sf\n"
        "print(predict.__name__, 'train' in globals(), 'train' in dir(sf), 'score' in sf.__all__)"
    )
    done = run(code)
    assert done.stdout.split() == ["predict", "False", "False", "True"], done.stderr


@pytest.mark.parametrize("before", ["", WITHOUT_TORCH])
def test_help_shows_the_package(before):
    done = run(f"{before}import pydoc, sentryfuse\nprint(len(pydoc.plain(pydoc.render_doc(sentryfuse))))")
    assert int(done.stdout) > 5000, done.stderr


def test_only_names_that_need_torch_are_hidden_without_it():
    code = WITHOUT_TORCH + (
        "import sentryfuse as sf\n"
        "for name in sf._HOMES:\n"
        "    try:\n        getattr(sf, name)\n"
        "    except ModuleNotFoundError:\n        print(name)"
    )
    done = run(code)
    assert set(done.stdout.split()) == sf._NEED_TORCH, done.stderr
