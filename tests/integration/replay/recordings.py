"""Recorded responses of real upstreams: files beside a checkout, and the project's own cases.

Two forms: `SERVER/CASE.response.txt` is a raw HTTP response to `CASE.request.json`.
`NAME.sse` or `NAME.json` is a body, with status, headers and often the request in
`NAME.source.txt`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cases import CASES, SHARED

Json = dict[str, Any]

# Answers of the servers' own Messages API.
NATIVE = "native-"

# Other paths of the servers.
_NOT_CHAT = ("models", "native-count-tokens")


@dataclass(frozen=True)
class Recording:
    """One response of an upstream. request: its body of Chat Completions; empty if unknown."""

    name: str
    status: int
    headers: dict[str, str]
    body: bytes
    request: Json

    @property
    def is_stream(self) -> bool:
        return self.body.lstrip().startswith((b"data:", b"event:", b":", b"id:"))


# Those that may not be copied into this repository, and many more like those of its own.
BESIDE = SHARED / "upstreams"


def recordings() -> dict[str, Recording]:
    """All that are there, by their names."""
    found = [*_raw(CASES / "recorded"), *_raw(BESIDE / "live"), *_bodies(BESIDE / "providers")]
    return {each.name: each for each in found}


def _raw(folder: Path) -> Iterator[Recording]:
    for file in sorted(folder.glob("*/*.response.txt")):
        case = file.name.removesuffix(".response.txt")
        head, *rest = re.split(rb"\r?\n\r?\n", file.read_bytes(), maxsplit=1)
        if head and not case.startswith(_NOT_CHAT):
            status, *fields = head.decode("latin1").splitlines()
            asked = file.with_name(f"{case}.request.json")
            request = _object(asked.read_text()) if asked.exists() else {}
            yield Recording(
                f"{file.parent.name}/{case}",
                int(status.split(" ")[1]),
                _headers(fields),
                rest[0],
                request,
            )


def _bodies(folder: Path) -> Iterator[Recording]:
    for file in sorted(folder.glob("*.source.txt")):
        name = file.name.removesuffix(".source.txt")
        body = next(
            file.with_name(f"{name}.{kind}")
            for kind in ("sse", "json")
            if file.with_name(f"{name}.{kind}").exists()
        )
        source = file.read_text()
        # The name has the status of an error whose recorder noted none, or 200.
        status = re.search(r"-err-(\d{3})", name) or re.search(
            r"^status: (\d+)", source, re.MULTILINE
        )
        request = re.search(r"^request: (.*)", source, re.MULTILINE)
        yield Recording(
            f"providers/{name}",
            int(status[1]) if status else 200,
            _headers(re.findall(r"^header: (.*)", source, re.MULTILINE)),
            body.read_bytes(),
            _object(request[1]) if request else {},
        )


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _object(text: str) -> Json:
    """Return a recorded request; empty when it is no JSON: broken on purpose, or truncated."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
