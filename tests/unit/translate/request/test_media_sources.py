"""Images and documents by their addresses: found at every place, and replaced in a copy."""

import copy
from dataclasses import replace
from typing import Any

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.translate.request.media_sources import (
    RemoteSource,
    count_blocks,
    count_remote_sources,
    has_pdfs,
    inline_sources,
)

Json = dict[str, Any]


def block(kind: str, url: str) -> Json:
    return {"type": kind, "source": {"type": "url", "url": url}, "title": "t"}


REQUEST: Json = {
    "messages": [
        {"role": "user", "content": "a"},
        {"role": "system"},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {
            "role": "user",
            "content": [
                block("image", "http://i"),
                block("image", "http://i"),
                block("image", "data:image/png;base64,AAAA"),
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [block("document", "http://d")],
                },
                {"type": "tool_result", "tool_use_id": "t", "content": "r"},
                {
                    "type": "document",
                    "source": {"type": "content", "content": [block("image", "http://j")]},
                },
                {"type": "document", "source": {"type": "content", "content": "c"}},
                block("document", "http://i"),
            ],
        },
    ]
}
DOCUMENTS = [RemoteSource("document", "http://d"), RemoteSource("document", "http://i")]
ALL = [
    RemoteSource("image", "http://i"),
    DOCUMENTS[0],
    RemoteSource("image", "http://j"),
    DOCUMENTS[1],
]


def test_found() -> None:
    assert list(count_remote_sources(REQUEST, GENERIC)) == ALL
    assert (
        list(count_remote_sources(REQUEST, replace(GENERIC, fetches_image_urls=True))) == DOCUMENTS
    )


def test_inlined() -> None:
    before = copy.deepcopy(REQUEST)
    made = inline_sources(
        REQUEST, {remote: {"type": "base64", "data": remote.url} for remote in ALL}
    )
    assert before == REQUEST, "the request is not touched"
    assert not count_remote_sources(made, GENERIC)
    content = made["messages"][3]["content"]
    assert content[0] == {
        "type": "image",
        "source": {"type": "base64", "data": "http://i"},
        "title": "t",
    }
    assert content[3]["content"][0]["source"]["data"] == "http://d"
    assert content[5]["source"]["content"][0]["source"]["data"] == "http://j"
    assert made["messages"][:3] == before["messages"][:3]
    assert made["messages"][2] is REQUEST["messages"][2], "what does not change is shared"
    assert inline_sources(REQUEST, {}) is REQUEST


def test_pdfs() -> None:
    assert not has_pdfs(REQUEST)
    pdf = {"type": "base64", "media_type": "Application/PDF", "data": ""}
    assert has_pdfs(inline_sources(REQUEST, {DOCUMENTS[0]: pdf}))
    for other in (
        {**pdf, "media_type": "text/plain"},
        {"type": "text", "media_type": None, "data": "pdf"},
    ):
        assert not has_pdfs(inline_sources(REQUEST, {DOCUMENTS[0]: other}))
    for kind in ("web_fetch_tool_result", "mcp_tool_result"):
        assert has_pdfs({"messages": [{"role": "assistant", "content": [{"type": kind}]}]})


def test_blocks_are_counted_without_those_that_hold_others() -> None:
    request = {
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "user", "content": [{"type": "text"}, {"type": "image"}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text"}]}]},
        ]
    }
    assert count_blocks(request) == 3
