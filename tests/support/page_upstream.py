"""A server that responds like the upstreams which the pages for users name."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.claude_code import strict_rules
from tests.claude_code.accents import ACCENTS, Said

TEXT = "Paris."
_MODELS = ("gpt-6.1-terra", "qwen/qwen3-coder", "qwen3:4b")
_LISTING = {"object": "list", "data": [{"id": name, "object": "model"} for name in _MODELS]}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 2},
}


class PageUpstream:
    """A server on the loopback address. It has Chat Completions and, not streamed, Messages.

    `is_ollama` makes the proxy detect it as Ollama. Every path may have a prefix.
    """

    def __init__(self, *, is_ollama: bool) -> None:
        self.bodies: list[Any] = []
        # The header of each request for a completion.
        self.authorizations: list[str | None] = []
        self.problems: list[str] = []
        self.is_ollama = is_ollama
        handler = type("_Bound", (_Handler,), {"upstream": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return self._server.server_port

    @contextlib.contextmanager
    def running(self) -> Iterator["PageUpstream"]:
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    upstream: PageUpstream

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            self._send(200, _LISTING)
        elif self.path == "/api/version" and self.upstream.is_ollama:
            self._send(200, {"version": "0.32.4"})
        else:
            self._send(404, {"error": {"message": f"Invalid URL (GET {self.path})"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/messages"):
            self.upstream.bodies.append(body)
            self._send(200, _MESSAGE)
        elif self.path.endswith("/chat/completions"):
            self._complete(body)
        else:
            self._send(404, {"error": {"message": f"Invalid URL (POST {self.path})"}})

    def _complete(self, body: Any) -> None:
        self.upstream.bodies.append(body)
        self.upstream.authorizations.append(self.headers["authorization"])
        problem = strict_rules.problem_of(body, ())
        accent = ACCENTS["openai"]
        if problem:
            self.upstream.problems.append(problem)
            self._send(400, {"error": {"message": problem, "type": "invalid_request_error"}})
        elif body.get("stream"):
            self._head("text/event-stream")
            for piece in (*accent.pieces(Said(TEXT)), "data: [DONE]"):
                line = piece if isinstance(piece, str) else f"data: {json.dumps(piece)}"
                self.wfile.write(line.encode() + b"\n\n")
        else:
            self._send(200, accent.whole(Said(TEXT)))

    def _send(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self._head("application/json", status, {"content-length": str(len(raw))})
        self.wfile.write(raw)

    def _head(self, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
