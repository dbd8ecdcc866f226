"""A collector that keeps the spans that it is sent, by OTLP over HTTP."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """`with Receiver() as receiver:`; `raw` is all that came, `spans` what it holds."""

    def __init__(self) -> None:
        received: list[tuple[str, bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in self._received}

    @property
    def raw(self) -> bytes:
        return b"".join(raw for _, raw in self._received)

    def _resources(self) -> list[Any]:
        return [
            resource
            for _, raw in self._received
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans
        ]

    @property
    def resources(self) -> list[dict[str, Any]]:
        return [attributes(each.resource) for each in self._resources()]

    @property
    def spans(self) -> list[Span]:
        return [
            span for each in self._resources() for scope in each.scope_spans for span in scope.spans
        ]

    def __enter__(self) -> "Receiver":
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(told: Any) -> dict[str, Any]:
    """Those of a span or a resource, as values of Python."""
    return {each.key: _value(each.value) for each in told.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return (
        [_value(each) for each in value.array_value.values]
        if kind == "array_value"
        else getattr(value, kind)
    )
