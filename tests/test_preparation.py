"""Requests with files, end to end: what the upstream gets of them, and that reading them holds up nobody."""

import asyncio
import gc
import json
import threading
from typing import Any

import httpx
import pytest
from pypdf import PageObject

from anthropic_proxy import preparation as preparation_module
from anthropic_proxy.dialects import GENERIC
from anthropic_proxy.downloads import Downloads
from anthropic_proxy.endpoints import Endpoint
from anthropic_proxy.errors import ApiError
from anthropic_proxy.preparation import Preparation
from anthropic_proxy.routing import Route
from anthropic_proxy.translate.request import to_openai
from anthropic_proxy.translate.signatures import UNSIGNED
from tests.pdfs import base64_of, pdf
from tests.running_proxy import running_proxy
from tests.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion

Json = dict[str, Any]
INSIDE = {"type": "text", "text": "[page 1 of 1]\nInside."}


def asking(source: Json, kind: str = "document") -> Json:
    content = [{"type": kind, "source": source}, {"type": "text", "text": "Sum it up"}]
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}


def pdf_source() -> Json:
    return {"type": "base64", "media_type": "application/pdf", "data": base64_of(pdf("Inside."))}


def post(proxy: str, body: Json, path: str = "") -> httpx.Response:
    return httpx.post(f"{proxy}/v1/messages{path}", json=body, timeout=DEADLINE, trust_env=False)


def test_a_pdf_is_read(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion()))
    assert post(proxy, asking(pdf_source())).status_code == 200
    assert upstream.request().body["messages"][0]["content"][0] == INSIDE


@pytest.mark.parametrize(("kind", "data"), [("document", pdf("Inside.")), ("image", b"GIF89a")])
def test_an_address_is_fetched(upstream: ScriptedUpstream, kind: str, data: bytes) -> None:
    upstream.then(answers(data), answers(completion()))
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret", DOWNLOADS="all") as proxy:
        assert post(proxy, asking({"type": "url", "url": upstream.url + "/f"}, kind)).status_code == 200
    fetched, asked = upstream.request(), upstream.request()
    assert (fetched.method, fetched.path) == ("GET", "/f")
    assert "authorization" not in fetched.headers, "the upstream's key is for the upstream"
    image = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}}
    assert asked.body["messages"][0]["content"][0] == (image if kind == "image" else INSIDE)


def test_private_addresses_are_refused(proxy: str, upstream: ScriptedUpstream) -> None:
    response = post(proxy, asking({"type": "url", "url": upstream.url}))
    assert response.status_code == 400
    assert "its host has no public address" in response.json()["error"]["message"]
    assert upstream.requests == []


def test_counting_fetches_nothing(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers({}, 404)] * 6)
    for kind in ("image", "document"):
        response = post(proxy, asking({"type": "url", "url": upstream.url}, kind), "/count_tokens")
        assert response.status_code == 200, json.dumps(response.json())
        assert response.json()["input_tokens"] > 1000
    assert {each.method for each in upstream.requests} == {"POST"}


def test_reading_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with a PDF waits for its thread, and the event loop goes on meanwhile."""
    reading, go = threading.Event(), threading.Event()

    def slow(*_: Any) -> str:
        reading.set()
        assert go.wait(DEADLINE)
        return "translated"

    monkeypatch.setattr(preparation_module, "to_openai", slow)

    async def main() -> object:
        preparation = Preparation(UNSIGNED, Downloads())
        working = asyncio.create_task(
            preparation.to_count(asking(pdf_source()), Route(Endpoint("up", "http://up/v1", GENERIC), "m"))
        )
        await asyncio.to_thread(reading.wait, DEADLINE)
        go.set()
        return await working

    assert asyncio.run(main()) == "translated"


def test_clients_that_leave_do_not_make_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they asked for is read on: it can't be stopped. The next ones wait for it."""
    started, go = threading.Semaphore(0), threading.Event()
    reading: list[object] = []
    most: list[int] = []

    def slow(*_: Any) -> str:
        reading.append(None)
        most.append(len(reading))
        started.release()
        assert go.wait(DEADLINE)
        reading.pop()
        return "translated"

    monkeypatch.setattr(preparation_module, "to_openai", slow)

    async def main() -> list[Any]:
        preparation = Preparation(UNSIGNED, Downloads())
        route = Route(Endpoint("up", "http://up/v1", GENERIC), "m")
        first, second, *others = [asyncio.create_task(preparation.to_count(asking(pdf_source()), route)) for _ in range(5)]
        for _ in range(2):
            await asyncio.to_thread(started.acquire, timeout=DEADLINE)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await asyncio.to_thread(lambda: None)
        go.set()
        made = await asyncio.gather(*others)
        await preparation.aclose()
        return made

    assert asyncio.run(main()) == ["translated"] * 3
    assert max(most) == 2


def test_nobody_reads_on_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process could not end before they did."""
    reading, go = threading.Event(), threading.Event()
    page = PageObject.extract_text

    def slow(self: PageObject) -> str:
        reading.set()
        assert go.wait(DEADLINE)
        return page(self)

    monkeypatch.setattr(PageObject, "extract_text", slow)
    source = {**pdf_source(), "data": base64_of(pdf("One.", "Two."))}

    async def main() -> None:
        preparation = Preparation(UNSIGNED, Downloads())
        working = asyncio.create_task(
            preparation.to_count(asking(source), Route(Endpoint("up", "http://up/v1", GENERIC), "m"))
        )
        await asyncio.to_thread(reading.wait, DEADLINE)
        await preparation.aclose()
        go.set()
        with pytest.raises(ApiError, match="it takes more than"):
            await working

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "thread"),
    [
        ({"messages": [{"role": "user", "content": "a"}] * 4001}, "translator_0"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 4001}]}, "translator_0"),
        ({"tools": [{"name": f"t{number}", "input_schema": {}} for number in range(2001)]}, "translator_0"),
        ({}, "MainThread"),
    ],
    ids=["messages", "blocks", "tools", "few"],
)
def test_many_parts_are_translated_in_a_thread(monkeypatch: pytest.MonkeyPatch, fields: Json, thread: str) -> None:
    threads: list[str] = []

    def translate(request: Json, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return to_openai(request, *arguments)

    monkeypatch.setattr(preparation_module, "to_openai", translate)
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}], **fields}

    async def main() -> Any:
        preparation = Preparation(UNSIGNED, Downloads())
        try:
            return await preparation.to_answer(request, Route(Endpoint("up", "http://up/v1", GENERIC), "m"))
        finally:
            await preparation.aclose()

    assert asyncio.run(main()).body["model"] == "m"
    assert threads == [thread]
    assert gc.isenabled()
