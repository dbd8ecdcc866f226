"""An upstream as strict as OpenAI's servers. A script looks at each request and chooses the
response.

A request that OpenAI would refuse is refused in OpenAI's words, and recorded as a problem: a
scenario without expected problems fails.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.claude_code import strict_rules
from tests.claude_code.accents import ACCENTS, Said

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """An error answer; `message` in OpenAI's error body."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True)
class Cut:
    """An answer whose stream ends after so many of its pieces, without a finish reason."""

    said: Said
    pieces: int


@dataclass(frozen=True)
class Conversation:
    """An upstream request for scripts. `number` counts the requests of the scenario from 1."""

    body: JsonObject
    number: int

    @property
    def results(self) -> list[str]:
        """The results of all tool calls, in order."""
        return [
            message["content"] for message in self.body["messages"] if message["role"] == "tool"
        ]

    @property
    def tools(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools", ())]

    @property
    def text(self) -> str:
        """All that is said in it, as JSON."""
        return json.dumps(self.body["messages"], ensure_ascii=False)

    @property
    def last(self) -> JsonObject:
        message: JsonObject = self.body["messages"][-1]
        return message


Script = Callable[[Conversation], Said | Refused | Cut]


@dataclass
class Exchange:
    """A request and the status of its response."""

    body: JsonObject
    status: int
    # why OpenAI would refuse the request, or why the script had no response
    problem: str = ""


class StrictUpstream:
    """`extra_fields` of messages are taken beyond OpenAI's."""

    def __init__(self, script: Script, accent: str, extra_fields: tuple[str, ...]) -> None:
        self.exchanges: list[Exchange] = []
        self._script = script
        self.accent = ACCENTS[accent]
        self._extra_fields = extra_fields
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("_Bound", (_Handler,), {"upstream": self})
        )
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def problems(self) -> list[str]:
        return [exchange.problem for exchange in self.exchanges if exchange.problem]

    @property
    def bodies(self) -> list[JsonObject]:
        return [exchange.body for exchange in self.exchanges]

    @contextlib.contextmanager
    def running(self) -> Iterator["StrictUpstream"]:
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

    def answer(self, body: JsonObject) -> Said | Refused | Cut:
        """Judge a request, keep it, and let the script decide."""
        with self._lock:
            exchange = Exchange(body, 200, strict_rules.problem_of(body, self._extra_fields))
            self.exchanges.append(exchange)
            said: Said | Refused | Cut = Refused(400, exchange.problem)
            if not exchange.problem:
                try:
                    said = self._script(Conversation(body, len(self.exchanges)))
                except Exception as error:  # noqa: BLE001 - any error belongs in the test's report
                    exchange.problem = f"the script has no answer: {error!r}"
                    said = Refused(402, exchange.problem)  # the one status that nobody retries
            exchange.status = said.status if isinstance(said, Refused) else 200
            return said


class _Handler(BaseHTTPRequestHandler):
    upstream: StrictUpstream

    def do_GET(self) -> None:
        self._json(404, _error(Refused(404, f"Invalid URL (GET {self.path})")), {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._json(404, _error(Refused(404, f"Invalid URL (POST {self.path})")), {})
            return
        said = self.upstream.answer(body)
        with contextlib.suppress(ConnectionError):
            if isinstance(said, Refused):
                self._json(said.status, _error(said), said.headers)
            elif body.get("stream"):
                self._stream(said)
            else:
                self._json(
                    200,
                    self.upstream.accent.whole(said.said if isinstance(said, Cut) else said),
                    {},
                )

    def _json(self, status: int, answer: JsonObject, headers: dict[str, str]) -> None:
        raw = json.dumps(answer).encode()
        self._head(
            status, {"content-type": "application/json", "content-length": str(len(raw)), **headers}
        )
        self.wfile.write(raw)

    def _stream(self, said: Said | Cut) -> None:
        self._head(200, {"content-type": "text/event-stream"})
        pieces = self.upstream.accent.pieces(said.said if isinstance(said, Cut) else said)
        for piece in pieces[: said.pieces] if isinstance(said, Cut) else [*pieces, "data: [DONE]"]:
            line = piece if isinstance(piece, str) else f"data: {json.dumps(piece)}"
            self.wfile.write(line.encode() + b"\n\n")

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Requests are kept, not printed."""


def _error(refused: Refused) -> JsonObject:
    kind = "rate_limit_exceeded" if refused.status == 429 else "invalid_request_error"
    return {
        "error": {"message": refused.message, "type": kind, "param": None, "code": refused.code}
    }
