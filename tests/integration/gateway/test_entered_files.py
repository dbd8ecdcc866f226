"""The number of source files that a chunk of a stream passes through."""

import asyncio
from typing import Any

from anthropic_proxy.wire.json_codec import dumps
from tests.support.profiling import MessagesRequest, entered_files, running_application
from tests.support.raw_server import CHUNKED, NEXT, READ, STALL, RawServer

MAX_FILES_PER_CHUNK = 12

STREAM: dict[str, Any] = {
    "model": "m",
    "max_tokens": 10,
    "stream": True,
    "messages": [{"role": "user", "content": "Hello"}],
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
}


def _chunk(text: str) -> bytes:
    """Return the bytes of a chunk of text: an event, as an HTTP chunk."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    event = b"data: %b\n\n" % dumps({"choices": [choice]})
    return b"%x\r\n%b\r\n" % (len(event), event)


async def _files_of_a_chunk() -> set[str]:
    """Return the files that the fourth chunk of a stream enters, with its bytes in one read."""
    script = [
        READ,
        CHUNKED,
        _chunk("a"),
        NEXT,
        _chunk(" b"),
        NEXT,
        _chunk(" c"),
        NEXT,
        _chunk(" d"),
    ]
    server = RawServer([[*script, STALL]])
    async with (
        server.running(),
        running_application(server.url) as application,
        MessagesRequest(application, STREAM) as request,
    ):
        assert (await request.next_message())["status"] == 200
        assert b'"text":"a"' in (await request.next_message())["body"]
        for text in (b" b", b" c"):
            server.go()
            assert b'"text":"%b"' % text in (await request.next_message())["body"]
        with entered_files() as files:
            server.go()
            message = await request.next_message()
        assert b'"text":" d"' in message["body"]
    return files


def test_a_chunk_of_text_passes_through_few_files() -> None:
    files = asyncio.run(_files_of_a_chunk())
    assert {"upstream/http_client.py", "gateway/streams/translated.py", "wire/sse.py"} <= files
    assert len(files) <= MAX_FILES_PER_CHUNK, sorted(files)
