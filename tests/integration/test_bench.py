"""A small benchmark: each case gives its figures. Tests do not judge how large they are."""

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from bench.bodies import large
from bench.cases import CASES
from bench.load import TASKS
from tests.support.raw_server import CHUNKED, READ, RawServer

# The others open thousands of streams, or take their time.
QUICK = ("paced", "flooded", "requests", "inputs")


def test_it_measures(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    command = [
        sys.executable,
        "-m",
        "bench",
        "--seconds",
        "0.2",
        "--only",
        ",".join(QUICK),
        "--json",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert {row["case"] for row in rows} == set(QUICK) < set(CASES)
    assert all(row["value"] > 0 and math.isfinite(row["value"]) for row in rows)
    assert "ours / pass-through, aiohttp" in done.stdout


def test_large_bodies_are_as_large_as_they_should_be() -> None:
    for size in (100_000, 1_000_000, 10_000_000):
        body = large(size)
        assert abs(len(body) / size - 1) < 0.2
        assert len(json.loads(body)["tools"]) == 60


@pytest.mark.parametrize(
    "end",
    [b"event: message_stop\ndata: {}\n\n", b"data: [DONE]\n\n", b"event: error\ndata: {}\n\n"],
)
def test_a_stream_that_breaks_off_is_no_result(end: bytes) -> None:
    """The end of a body is not that of a stream."""

    async def main() -> None:
        body = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n' + end
        async with RawServer(
            [[READ, CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)]]
        ).running() as server:
            result = await TASKS["streams"]({"url": server.url, "body": "{}", "clients": 1})
        assert len(result["first"]) == 1

    if b"error" not in end:
        asyncio.run(main())
    else:
        with pytest.raises(ConnectionError, match="is incomplete"):
            asyncio.run(main())
