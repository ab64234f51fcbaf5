"""A run of its own process that is served."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentryfuse.data import Windows, save_windows
from tests.tiny import GOLDEN, tiny_windows

LOOK_S = 0.05
TOKEN = "a-token-of-the-tests-0123456789"
BUNDLE = GOLDEN / "tiny-v3.bundle"


@dataclass
class Run:
    """A process, where it is served and what it writes."""

    process: subprocess.Popen[str]
    url: str
    out: Path

    def ask(
        self, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Code, headers and text of one answer; a body makes it a POST."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read().decode()

    def wait(self, enough: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Until something is so; counted in looks, so that a machine that stops all of us for a while may."""
        for _ in range(int(limit_s / LOOK_S)):
            if enough():
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(LOOK_S)
        raise AssertionError(f"not so within {limit_s:g} s")

    def latest(self) -> dict[str, Any]:
        """The last window that is told."""
        return json.loads(self.ask("v1/answers?n=1")[2])[-1]

    def end(self) -> list[dict[str, Any]]:
        """Stop it, and give the lines it wrote."""
        if self.process.poll() is None:
            self.process.terminate()
        said = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, said
        assert "Traceback" not in said[1]
        return [json.loads(line) for line in self.out.read_text(encoding="utf-8").splitlines()]


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def started(
    folder: Path,
    *options: str,
    token: bool = False,
    speed: float = 60,
    host: str = "127.0.0.1",
    bundle: Path = BUNDLE,
    windows: Windows | None = None,
) -> Run:
    """A run on a replay that is ready."""
    recording, out, port = folder / "recording.npz", folder / "out.jsonl", free_port()
    save_windows(recording, windows or tiny_windows(400))
    settings = {"SENTRYFUSE_SERVE_TOKEN": TOKEN} if token else {}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sentryfuse", "run", str(bundle), "--json", str(out)),
            *("--source", f"replay:{recording}?speed={speed}&split=all"),
            *("--serve", f"{host}:{port}", *options),
        ],
        env={**os.environ, **settings},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    run = Run(process, f"http://127.0.0.1:{port}/", out)
    try:
        run.wait(lambda: _is_up(run), 60.0)
    except BaseException:
        process.kill()
        raise
    return run


def ended(run: Run) -> Iterator[Run]:
    """Give it, and end it whatever happens."""
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


def _is_up(run: Run) -> bool:
    try:
        return run.ask("readyz")[0] == 200
    except (urllib.error.URLError, ConnectionError):
        return False
