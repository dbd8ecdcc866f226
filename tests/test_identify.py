"""What servers say of themselves, and what is made of it."""

import asyncio
import json
from typing import Any

import pytest

from anthropic_proxy.config import Settings
from anthropic_proxy.dialects import GENERIC, named
from anthropic_proxy.endpoint_client import endpoint_client
from anthropic_proxy.endpoints import Endpoint, of_settings
from anthropic_proxy.identify import PATHS, identify, may_be_asked
from anthropic_proxy.upstream import Upstream
from tests.raw_server import READ, WHOLE, RawServer

VERSION = {"version": "0.32.0"}

SERVERS: dict[str, dict[str, Any]] = {
    "ollama": {"/api/version": {"version": "0.5.4"}},
    "llamacpp": {"/props": {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 2}},
    "vllm": {"/version": VERSION},
    "sglang": {"/get_server_info": {"model_path": "qwen/qwen3", "port": 30000}, "/version": VERSION},
    "lmstudio": {"/api/v0/models": {"object": "list", "data": []}},
    "litellm": {"/health/readiness": {"status": "healthy", "litellm_version": "1.109.1"}},
}


def asked(answers: dict[str, Any]) -> str | None:
    async def ask(path: str) -> tuple[int, bytes] | None:
        answer = answers.get(path, 404)
        if isinstance(answer, bytes):
            return 200, answer
        return (answer, b"{}") if isinstance(answer, int) else answer and (200, json.dumps(answer).encode())

    dialect = asyncio.run(identify(ask))
    return dialect.name if dialect else None


@pytest.mark.parametrize("name", SERVERS)
def test_servers(name: str) -> None:
    assert asked(SERVERS[name]) == name


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({}, id="nothing-known"),
        pytest.param(dict.fromkeys(PATHS), id="no-answer"),
        pytest.param(dict.fromkeys(PATHS, b"<html>"), id="html"),
        pytest.param(dict.fromkeys(PATHS, b"[]"), id="lists"),
        pytest.param(dict.fromkeys(PATHS, b"{}"), id="empty"),
        pytest.param(dict.fromkeys(PATHS, 200), id="always-200"),
        pytest.param({"/version": {"version": 1}}, id="no-text"),
    ],
)
def test_others(answers: dict[str, Any]) -> None:
    assert asked(answers) is None


def test_a_server_is_asked_for_nobody() -> None:
    """Not even when it gets the keys of the clients, of whom there is none yet."""

    async def main() -> tuple[int, bytes] | None:
        upstream = Upstream()
        async with RawServer([[READ, WHOLE]]).running() as server:
            (endpoint,) = of_settings(Settings(UPSTREAM_BASE_URL=server.url, UPSTREAM_API_KEY_PASSTHROUGH=True))
            try:
                return await endpoint_client(endpoint, upstream).look("/version")
            finally:
                await upstream.aclose()

    looked = asyncio.run(main())
    assert looked is not None
    assert looked[0] == 200


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthropic_proxy.identify._PATIENCE", 0)

    async def ask(_: str) -> tuple[int, bytes] | None:
        await asyncio.Event().wait()
        return None

    assert asyncio.run(identify(ask)) is None


def test_a_path_that_never_answers_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthropic_proxy.identify._PATIENCE", 0.05)

    async def ask(path: str) -> tuple[int, bytes] | None:
        if path != "/version":
            await asyncio.Event().wait()
        return 200, json.dumps(VERSION).encode()

    assert asyncio.run(identify(ask)) is named("vllm")


@pytest.mark.parametrize(
    ("base", "fields", "wanted"),
    [
        ("http://localhost:8080/v1", {}, True),
        ("http://ollama:11434/v1", {}, True),
        ("http://192.168.1.7/v1", {}, True),
        ("http://[::1]:8080/v1", {}, True),
        ("http://gpu.local/v1", {}, True),
        ("https://llm.example.com/v1", {}, False),
        ("http://8.8.8.8/v1", {}, False),
        ("http://localhost:8080/v1", {"is_guessed": False}, False),
        ("http://localhost:8080/v1", {"api": "messages"}, False),
    ],
)
def test_who_is_asked(base: str, fields: dict[str, Any], wanted: bool) -> None:  # noqa: FBT001 - a column of the table
    assert may_be_asked(Endpoint("up", base, GENERIC, **{"is_guessed": True, **fields})) is wanted


def test_every_sign_is_of_a_row() -> None:
    assert all(named(name).hosts == () for name in SERVERS)
