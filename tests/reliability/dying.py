"""Work of which some inputs end the process, last too long, or take too much."""

from __future__ import annotations

import os
import signal
from typing import Any

from benchmarks.reliability.apart import OverdueError, Watched


def chunk(given: dict[str, Any], watched: Watched) -> dict[str, Any]:
    came = []
    watched.begin(room_mb=256)
    for k in range(given["size"]):
        if not watched.step(k):
            continue
        try:
            what = given["inputs"].get(str(k))
            if what == "killed":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif what == "exits":
                os._exit(3)
            elif what == "loops":
                while True:
                    pass
            elif what == "hungry":
                bytearray(1 << 30)
            came.append([k, "ok"])
        except OverdueError:
            came.append([k, "overdue"])
        except MemoryError:
            came.append([k, "no memory"])
        watched.rest()
    return {"came": came, "grown_mb": watched.grown_mb}
