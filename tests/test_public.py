from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import sentryfuse as sf

CONTRACT = (
    "Backbone",
    "Budget",
    "DeviceProfile",
    "Engine",
    "Meter",
    "Plan",
    "Scorer",
    "Source",
    "bench",
    "compare",
    "create_model",
    "errors",
    "evaluate",
    "export_bundle",
    "from_pretrained",
    "load_bundle",
    "load_windows",
    "plan",
    "profile",
    "prune",
    "register_engine",
    "register_meter",
    "register_model",
    "register_scorer",
    "register_source",
    "sklearn",
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
    assert set(sf.__all__) == {*sf._HOMES, *sf._MODULES}


def test_the_short_words_do_what_they_say():
    assert sf.plan is importlib.import_module("sentryfuse.decide").plan
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


@pytest.mark.parametrize("missing", [("torch", "sklearn"), ("sklearn",)])
def test_a_star_import_and_help_take_what_can_be_had(missing):
    code = (
        "import pydoc, sys\n"
        f"for name in {missing!r}:\n    sys.modules[name] = None\n"
        "import sentryfuse\n"
        "from sentryfuse import *\n"
        "assert 'load_bundle' in globals() and 'bench' in globals()\n"
        "text = pydoc.plain(pydoc.render_doc(sentryfuse))\n"
        "print('predict' in text, 'sklearn' in sentryfuse.__all__, 'train' in sentryfuse.__all__)"
    )
    done = run(code)
    assert done.stdout.split() == ["True", "False", str("torch" not in missing)], done.stderr


def test_importing_the_package_loads_neither_torch_nor_scikit_learn():
    done = run("import sys, sentryfuse\nprint({'torch', 'sklearn', 'onnxruntime'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr
