"""A running stream, seen and steered over HTTP: health, metrics, answers, a live page, changes.

    stream -> Board -> threads of the server -> page, /metrics, /v1/answers

`address` says where to listen and who may come in, `board` holds what the stream leaves (bounded, so that
nobody who reads can delay a window), `metrics` is its Prometheus text, `application` the addresses, `live`
what the page follows, `control` what can be changed, `server` runs it beside the stream. It needs the extra
`serve`; the page is one file without requests to anywhere else.
"""

from sentryfuse.serve.server import Served, open_server

__all__ = ["Served", "open_server"]
