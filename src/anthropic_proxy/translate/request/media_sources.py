"""Find the images and documents of a request, and replace their sources in a copy of it."""

import base64
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.wire.json_codec import JsonObject

# The first bytes of the image types that the Messages API accepts (WebP: see `detect_image_type`).
_IMAGE_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
)
# Characters of base64 data that contain these bytes, also with line breaks.
_MAGIC_CHARACTERS = 16
_MAGIC_SEARCHED = 64


def detect_image_type(data: bytes) -> str:
    """Return the media type that the first bytes of an image show; empty if they show none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for magic, media_type in _IMAGE_MAGIC:
        if data.startswith(magic):
            return media_type
    return ""


def detect_base64_image_type(data: str) -> str:
    """Return the media type that base64 data shows; empty if it shows none.

    Clients send JPEG as `image/png`, which upstreams refuse.
    """
    characters = "".join(data[:_MAGIC_SEARCHED].split())[:_MAGIC_CHARACTERS]
    try:
        beginning = base64.b64decode(characters[: len(characters) // 4 * 4], validate=True)
    except ValueError:
        return ""
    return detect_image_type(beginning)


class RemoteSource(NamedTuple):
    """A source with a URL: the type of its block, and the URL."""

    kind: Literal["image", "document"]
    url: str


def count_remote_sources(request: JsonObject, profile: ProviderProfile) -> Counter[RemoteSource]:
    """Count the sources that the proxy must download, in order of appearance.

    These are documents, and also images if the upstream does not download them.
    """
    remotes: Counter[RemoteSource] = Counter()
    for block in _iterate_blocks(request):
        remote = _parse_remote(block)
        if remote is not None and not _is_fetched_by_upstream(remote, profile):
            remotes[remote] += 1
    return remotes


def _is_fetched_by_upstream(remote: RemoteSource, profile: ProviderProfile) -> bool:
    if remote.kind == "document":
        return False
    return profile.fetches_image_urls or remote.url.startswith("data:")


def inline_sources(request: JsonObject, sources: dict[RemoteSource, JsonObject]) -> JsonObject:
    """Return the request with `sources` in place of the sources with URLs.

    Unchanged parts are shared with the request.
    """

    def inline(block: JsonObject) -> JsonObject:
        remote = _parse_remote(block)
        if remote not in sources:
            return block
        return {**block, "source": sources[remote]}

    return _replace_blocks(request, inline)


def has_pdfs(request: JsonObject) -> bool:
    """Return whether a request may contain a PDF, whose text extraction can take seconds.

    Results of server tools may contain PDFs.
    """
    return any(map(_may_be_pdf, _iterate_blocks(request)))


def count_blocks(request: JsonObject) -> int:
    """Return the number of blocks in the messages of a validated request."""
    return sum(1 for _ in _iterate_blocks(request))


def _may_be_pdf(block: JsonObject) -> bool:
    if block["type"] == "document":
        source = block["source"]
        return source["type"] == "base64" and "pdf" in source["media_type"].lower()
    return block["type"] in ("web_fetch_tool_result", "mcp_tool_result")


def _iterate_blocks(request: JsonObject) -> Iterator[JsonObject]:
    """Yield all blocks in order, with nested blocks in place of the block that contains them."""
    for message in request["messages"]:
        # A stack is faster than nested generators, which pass each block through all levels.
        levels = [_iterate_content(message)]
        while levels:
            block = next(levels[-1], None)
            if block is None:
                levels.pop()
                continue
            content_holder = _find_content_holder(block)
            if content_holder is None:
                yield block
            else:
                levels.append(_iterate_content(content_holder))


def _iterate_content(holder: JsonObject) -> Iterator[JsonObject]:
    content = holder.get("content")
    return iter(content if isinstance(content, list) else ())


def _find_content_holder(block: JsonObject) -> JsonObject | None:
    """Return the object whose `content` has the nested blocks of a block, or None."""
    if block["type"] == "tool_result":
        return block
    if block["type"] == "document" and block["source"]["type"] == "content":
        source: JsonObject = block["source"]
        return source
    return None


def _parse_remote(block: JsonObject) -> RemoteSource | None:
    kind = block["type"]
    if kind in ("image", "document") and block["source"]["type"] == "url":
        return RemoteSource(kind, block["source"]["url"])
    return None


_BlockChange = Callable[[JsonObject], JsonObject]


def _replace_blocks(request: JsonObject, replace: _BlockChange) -> JsonObject:
    """Return the request with each block replaced, or the same request if no block changed."""
    messages = [_replace_content(message, replace) for message in request["messages"]]
    if _are_same(messages, request["messages"]):
        return request
    return {**request, "messages": messages}


def _replace_content(holder: JsonObject, replace: _BlockChange) -> JsonObject:
    """Replace the blocks in the `content` of a message, tool_result or content source."""
    content = holder.get("content")
    if not isinstance(content, list):
        return holder
    blocks = [_replace_block(block, replace) for block in content]
    if _are_same(blocks, content):
        return holder
    return {**holder, "content": blocks}


def _replace_block(block: JsonObject, replace: _BlockChange) -> JsonObject:
    holder = _find_content_holder(block)
    if holder is None:
        return replace(block)
    replaced = _replace_content(holder, replace)
    if replaced is holder:
        return block
    return replaced if holder is block else {**block, "source": replaced}


def _are_same(left: list[JsonObject], right: list[JsonObject]) -> bool:
    return all(map(operator.is_, left, right))
