"""Where a request's images and documents come from: found wherever they stand, and replaced in a copy of the request."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.wire.json_codec import JsonObject


class Remote(NamedTuple):
    """Something that the proxy must fetch: the type of its block, and its address."""

    kind: Literal["image", "document"]
    url: str


def remote_sources(request: JsonObject, dialect: Dialect) -> Counter[Remote]:
    """Return what an upstream of `dialect` can't fetch itself, in order, and how often the request has it.

    These are documents, and images unless the upstream fetches them.
    """
    remotes = filter(None, map(_remote, _blocks_of(request)))
    return Counter(each for each in remotes if not _fetches(each, dialect))


def _fetches(remote: Remote, dialect: Dialect) -> bool:
    return remote.kind == "image" and (dialect.fetches_image_urls or remote.url.startswith("data:"))


def inlined(request: JsonObject, sources: dict[Remote, JsonObject]) -> JsonObject:
    """The request with `sources` in place of the addresses. What does not change is shared, nothing is changed in place."""

    def inline(block: JsonObject) -> JsonObject:
        remote = _remote(block)
        return {**block, "source": sources[remote]} if remote in sources else block

    return _replaced(request, inline)


def has_pdfs(request: JsonObject) -> bool:
    """Whether a PDF may have to be read, which can take seconds. It may be within what a server's tool brought."""
    return any(map(_may_be_pdf, _blocks_of(request)))


def count_blocks(request: JsonObject) -> int:
    """Return how many blocks the messages of a checked request hold."""
    return sum(1 for _ in _blocks_of(request))


def _may_be_pdf(block: JsonObject) -> bool:
    if block["type"] == "document":
        source = block["source"]
        return source["type"] == "base64" and "pdf" in source["media_type"].lower()
    return block["type"] in ("web_fetch_tool_result", "mcp_tool_result")


def _blocks_of(request: JsonObject) -> Iterator[JsonObject]:
    """Yield all blocks, in order, but for those that are there to hold others."""
    for message in request["messages"]:
        # Nested generators would hand each block up through all levels.
        levels = [_content(message)]
        while levels:
            block = next(levels[-1], None)
            if block is None:
                levels.pop()
                continue
            held = _held(block)
            if held is None:
                yield block
            else:
                levels.append(_content(held))


def _content(holder: JsonObject) -> Iterator[JsonObject]:
    content = holder.get("content")
    return iter(content if isinstance(content, list) else ())


def _held(block: JsonObject) -> JsonObject | None:
    """What has the content of a block that holds others."""
    if block["type"] == "tool_result":
        return block
    is_holder = block["type"] == "document" and block["source"]["type"] == "content"
    return block["source"] if is_holder else None


def _remote(block: JsonObject) -> Remote | None:
    kind = block["type"]
    if kind in ("image", "document") and block["source"]["type"] == "url":
        return Remote(kind, block["source"]["url"])
    return None


_Replace = Callable[[JsonObject], JsonObject]


def _replaced(request: JsonObject, replace: _Replace) -> JsonObject:
    messages = _each(request["messages"], lambda message: _with_content(message, replace))
    return request if messages is request["messages"] else {**request, "messages": messages}


def _with_content(holder: JsonObject, replace: _Replace) -> JsonObject:
    """A message, tool_result or content source: anything with `content`."""
    content = holder.get("content")
    if not isinstance(content, list):
        return holder
    blocks = _each(content, lambda block: _block(block, replace))
    return holder if blocks is content else {**holder, "content": blocks}


def _block(block: JsonObject, replace: _Replace) -> JsonObject:
    if block["type"] == "tool_result":
        return _with_content(block, replace)
    if block["type"] == "document" and block["source"]["type"] == "content":
        source = _with_content(block["source"], replace)
        return block if source is block["source"] else {**block, "source": source}
    return replace(block)


def _each(items: list[JsonObject], change: _Replace) -> list[JsonObject]:
    """The changed items; `items` itself when nothing changed."""
    changed = [change(item) for item in items]
    return items if _same(items, changed) else changed


def _same(left: Iterable[JsonObject], right: Iterable[JsonObject]) -> bool:
    return all(one is other for one, other in zip(left, right, strict=True))
