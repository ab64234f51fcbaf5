"""After a fork the child has none of its parent's threads, and builds all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.tiny import GOLDEN

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

PROGRAM = f"""
import os
from sentryfuse.bundle import load_bundle
from sentryfuse.engine.sessions import Sessions
from sentryfuse.types import Budget
bundle = load_bundle({str(GOLDEN / "tiny-v3.bundle")!r})
sessions = Sessions(bundle)
first, second = (sessions.plan(None, Budget(ratio=ratio)) for ratio in (0.0, 0.6))
sessions.prepare(first)
assert sessions.wait(20)
child = os.fork()
if not child:
    sessions.prepare(second, needed=True)
    done = sessions.wait(20, second) and sessions.ready(second) is not None
    os._exit(0 if done else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


WHILE_BUILDING = f"""
import os, threading
from sentryfuse.bundle import load_bundle
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.engine.sessions import Sessions
from sentryfuse.types import Budget

begun, go = threading.Event(), threading.Event()

class Held(OnnxRuntime):
    held = True
    def build(self, model, **options):
        if self.held:
            begun.set()
            assert go.wait(20)
        return super().build(model, **options)

bundle, engine = load_bundle({str(GOLDEN / "tiny-v3.bundle")!r}), Held()
sessions = Sessions(bundle, engine=engine)
first, second = (sessions.plan(None, Budget(ratio=ratio)) for ratio in (0.0, 0.6))
likely = iter([first])
sessions.expect(lambda: next(likely, None), most_mb=1.0)
assert begun.wait(20)
child = os.fork()
if not child:
    engine.held = False
    sessions.prepare(second, needed=True)
    done = sessions.wait(20, second) and sessions.ready(second) is not None
    os._exit(0 if done else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
go.set()
assert sessions.wait(20)
assert sessions.look(first)
"""


@pytest.mark.parametrize("program", [PROGRAM, WHILE_BUILDING], ids=["at rest", "while one is built ahead"])
def test_a_forked_process_builds_sub_networks(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
