"""The addresses: who may ask what, and what is answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sentryfuse.bundle import Bundle
from sentryfuse.errors import InputError, SignatureError
from sentryfuse.runtime.offers import DIGEST, Offer, Outcome
from sentryfuse.serve.address import TOKEN, Access
from sentryfuse.serve.board import KEPT, Board, finite, probation
from sentryfuse.serve.control import (
    MOST_JSON,
    SIGNATURE,
    change_budget,
    change_present,
    offer_bundle,
    received,
    received_bundle,
    room,
)
from sentryfuse.serve.live import MOST_VIEWERS, Live
from sentryfuse.serve.metrics import Metrics

DEFAULT_N = 100
LOOK_S = 0.25  # between two looks whether the run has ended, while a bundle waits for a window
_CODES = {Outcome.TOOK_OVER: 200, Outcome.WAITING: 202, Outcome.REPLACED: 409}
Endpoint = Callable[[Request], Awaitable[Response]]


class Application:
    """Answers requests about one stream.

    Args:
        board: what the stream leaves.
        live: what the page follows.
        access: who may read and who may change something.
        load: reads and verifies a bundle that is sent.
    """

    def __init__(self, board: Board, live: Live, access: Access, load: Callable[[Path], Bundle]) -> None:
        self._load = load
        self._board, self._live, self._access = board, live, access
        self._runtime = board.runtime
        self._metrics = Metrics(board)
        self._page = resources.files("sentryfuse.serve").joinpath("page.html").read_text(encoding="utf-8")
        self._policy = _policy(self._page)
        self._swapping = asyncio.Lock()  # one bundle at a time

    def asgi(self) -> Starlette:
        """For an ASGI server."""
        return Starlette(
            routes=[
                Route("/", self._open(self._show_page)),
                Route("/healthz", self._open(self._health)),
                Route("/readyz", self._open(self._ready)),
                Route("/metrics", self._read(self._tell_metrics)),
                Route("/v1/answers", self._read(self._answers)),
                Route("/v1/live", self._read(self._follow)),
                Route("/v1/budget", self._change(self._budget), methods=["POST"]),
                Route("/v1/present", self._change(self._present), methods=["POST"]),
                Route("/v1/bundle", self._change(self._bundle), methods=["POST"]),
                Route("/v1/bundle", self._read(self._bundles)),
            ]
        )

    def _open(self, endpoint: Endpoint) -> Endpoint:
        """For everybody who gets here: nothing of the stream is in it but whether it goes on."""

        async def answer(request: Request) -> Response:
            if not self._access.knows_host(request.headers.get("host")):
                return _refused(403, "this listens on loopback only; ask for it as 127.0.0.1 or localhost")
            response = await endpoint(request)
            response.headers.update(_HEADERS)
            return response

        return answer

    def _read(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            if not self._access.may_read(request.headers.get("authorization")):
                return _unknown()
            return await endpoint(request)

        return self._open(answer)

    def _change(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            if self._access.token is None:
                return _refused(
                    403, f"nothing can be changed without a token; start the run with {TOKEN} set"
                )
            if not self._access.knows(request.headers.get("authorization")):
                return _unknown()
            try:
                return await endpoint(request)
            except InputError as error:
                return _refused(403 if isinstance(error, SignatureError) else 400, str(error))
            except ClientDisconnect:
                return _refused(400, "the request ended early")

        return self._open(answer)

    async def _show_page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy})

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, request: Request) -> Response:
        why = self._board.why_not_ready()
        if why and not self._access.may_read(request.headers.get("authorization")):
            why = "not ready"  # names of sensors and errors are for those who may read
        return PlainTextResponse(f"{why or 'ok'}\n", 503 if why else 200)

    async def _tell_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _answers(self, request: Request) -> Response:
        text = request.query_params.get("n", str(DEFAULT_N))
        if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= KEPT and len(text) < 9):
            return _refused(400, f"n must be a whole number from 1 to {KEPT}, got {text[:40]}")
        return JSONResponse(finite(self._board.latest(int(text))))

    async def _follow(self, request: Request) -> Response:
        if self._live.viewers >= MOST_VIEWERS:
            return _refused(503, f"{MOST_VIEWERS} others follow already; ask /v1/answers now and then")
        return StreamingResponse(self._live.events(), media_type="text/event-stream")

    async def _budget(self, request: Request) -> Response:
        return await self._asked(request, change_budget)

    async def _present(self, request: Request) -> Response:
        return await self._asked(request, change_present)

    async def _asked(self, request: Request, change: Callable[..., dict[str, Any]]) -> Response:
        body = await received(request.stream(), MOST_JSON)
        return JSONResponse(await run_in_threadpool(change, self._runtime, body))

    async def _bundle(self, request: Request) -> Response:
        if self._swapping.locked():
            return _refused(409, "another bundle is just being taken in; try again in a moment")
        async with self._swapping:
            with room() as folder:
                signature = request.headers.get(SIGNATURE)
                path = await received_bundle(request.stream(), folder, signature)
                offer = await run_in_threadpool(offer_bundle, self._runtime, path, self._load)
        await self._settled(offer)
        return _told(offer)

    async def _settled(self, offer: Offer) -> None:
        """Wait for a window, as long as one may take; the next bundle may be sent meanwhile."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._runtime.window_s + self._board.patience_s
        while not await run_in_threadpool(offer.wait, LOOK_S):
            if self._live.ended or loop.time() > until:
                return

    async def _bundles(self, request: Request) -> Response:
        serving = self._runtime.serving
        return JSONResponse(
            {
                "bundle": serving.bundle.digest[:DIGEST],
                "probation": probation(self._runtime),
                "offers": [offer.to_json() for offer in serving.offers.latest.copy()],
            }
        )


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _policy(page: str) -> str:
    """Lets a browser run the page's own script and ask this server, and nothing else."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _refused(code: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, code, headers=_HEADERS)


def _told(offer: Offer) -> Response:
    """What became of a bundle; of one that does not answer, why."""
    said = offer.to_json()
    code = _CODES.get(offer.outcome, 400)
    return JSONResponse(said if code < 400 else {**said, "error": said["reason"]}, code)


def _unknown() -> Response:
    sentence = "this needs the token, in the header Authorization: Bearer TOKEN"
    return JSONResponse({"error": sentence}, 401, headers={**_HEADERS, "WWW-Authenticate": "Bearer"})
