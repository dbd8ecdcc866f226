"""The cost of a request, and the size of its upstream body, grow at most with its size.

Each row is a hostile request of some size. It is checked, edited, translated and encoded.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.providers.profiles import GENERIC, PROFILES, ProviderProfile
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate import compaction, passthrough
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import apply_edits
from anthropic_proxy.translate.request.chat_request import to_chat_request
from anthropic_proxy.translate.request.system_prompt import merge_system_into_user
from anthropic_proxy.translate.tokens.estimate import estimate_request, estimate_untranslated
from anthropic_proxy.wire.anthropic.request import (
    InvalidRequestError,
    parse_messages_body,
    parse_messages_request,
)
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from tests.support.scaling import Prepare, assert_linear_cpu

Json = dict[str, Any]

BY_NAME = {dialect.name: dialect for dialect in PROFILES}
OPENROUTER = BY_NAME["openrouter"]
# Turns 200 KB of any of these requests into this much at the most.
LARGEST_FACTOR = 6
# Seconds of the smallest measurement: short work is repeated, so that its data still fits the
# caches of any machine.
SHORTEST_RUN = 0.02


def asking(*blocks: Json, **fields: Any) -> Json:
    content = list(blocks) or "Hello"
    return {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": content}],
        **fields,
    }


def schema(of: Json) -> Json:
    return asking(tools=[{"name": "t", "input_schema": of}])


def properties(count: int) -> Json:
    return {
        f"property_{number}": {"type": "string", "description": "A text"} for number in range(count)
    }


def nested(inner: Json, wrap: Callable[[Json], Json], depth: int = 60) -> Json:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def references(size: int) -> Json:
    """Alternatives that differ, and refer to one definition that has its own alternatives."""
    inner = [
        {"properties": {"kind": {"const": number}}, "required": ["kind"]} for number in range(size)
    ]
    definition = {
        "properties": properties(size),
        "required": list(properties(size)),
        "anyOf": inner,
    }
    branches = [{"$ref": "#/$defs/D", "title": str(number)} for number in range(size)]
    return {"$defs": {"D": definition}, "anyOf": branches}


def colliding_ids(size: int) -> Json:
    """A long id, and ids that are taken for those which it would get one after the other."""
    long_id = "é" * (size * 10)
    hashed = long_id[:31] + hashlib.sha256(long_id.encode()).hexdigest()
    taken = [_made(each, number) for number in range(size) for each in (long_id, hashed)]
    uses = [
        {"type": "tool_use", "id": each, "name": "n", "input": {}} for each in (*taken, long_id)
    ]
    return asking(messages=[{"role": "assistant", "content": uses}])


def _made(tool_use_id: str, number: int) -> str:
    return "_" * 31 + "_" + hashlib.sha256(f"{number} {tool_use_id}".encode()).hexdigest()[:8]


def thoughts(size: int) -> Json:
    block = {
        "type": "thinking",
        "thinking": "Some thought " * 50,
        "signature": "anthropic-proxy.1.reasoning",
    }
    return asking(
        messages=[
            {"role": "assistant", "content": [block] * size},
            {"role": "user", "content": "Go on"},
        ]
    )


def orphan(size: int) -> Json:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    return asking(
        {"type": "tool_result", "tool_use_id": "i" * size * 50, "content": [image] * size}
    )


def nested_documents(size: int) -> Json:
    def document(inner: Json) -> Json:
        return {
            "type": "document",
            "source": {"type": "content", "content": [inner] if "type" in inner else inner["all"]},
        }

    return asking(nested({"all": [{"type": "text", "text": "a"}] * size}, document, 40))


def turns(size: int) -> Json:
    use = {"type": "tool_use", "id": "same", "name": "mcp__" + "x" * 80, "input": {}}
    result = {"type": "tool_result", "tool_use_id": "same", "content": "done"}
    pair = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return asking(messages=[{"role": "user", "content": "Go"}, *(pair * size)])


def roles(size: int) -> Json:
    kinds: list[Json] = [
        {"role": "system", "content": "Mind the gap"},
        {"role": "user", "content": "a", "clear_at": "next_user_message"},
        {"role": "system", "content": "b", "clear_at": "next_user_message"},
    ]
    return asking(messages=kinds * size)


def one_turn(size: int) -> Json:
    """All calls in one message, their results in the next one, each of them twice."""
    uses = [
        {"type": "tool_use", "id": f"t{number}", "name": "n", "input": {}} for number in range(size)
    ]
    results = [{"type": "tool_result", "tool_use_id": f"t{number}"} for number in range(size)]
    return asking(
        messages=[
            {"role": "assistant", "content": uses},
            {"role": "user", "content": [*results, *reversed(results)]},
        ]
    )


def server_tools(size: int) -> Json:
    found = [{"type": "web_search_result", "url": "https://example.com", "title": "x"}] * 3
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": found}
    return asking(
        messages=[
            {"role": "assistant", "content": [use, result] * size},
            {"role": "user", "content": "Go on"},
        ]
    )


def changed_tools(size: int) -> Json:
    tools = [{"name": f"tool_{number}", "input_schema": {}} for number in range(size)]
    changes = [
        {"type": kind, "tool": {"type": "tool_reference", "name": tool["name"]}}
        for kind in ("tool_removal", "tool_addition")
        for tool in tools
    ]
    system = {"role": "system", "content": changes}
    return asking(tools=tools, messages=[{"role": "user", "content": "Go"}, system])


def edits(size: int) -> Json:
    names = [f"tool_{number}" for number in range(size * 10)]
    edit = {
        "type": "clear_tool_uses_20250919",
        "trigger": {"type": "tool_uses", "value": 1},
        "exclude_tools": names,
        "clear_tool_inputs": names,
    }
    return {**turns(size), "context_management": {"edits": [edit]}}


def many_edits(kind: str) -> Callable[[int], Json]:
    edit = {"type": kind, "trigger": {"type": "input_tokens", "value": 10**9}}
    return lambda size: {**turns(size), "context_management": {"edits": [edit] * size}}


def tools(**fields: Any) -> Callable[[int], Json]:
    """Many tools of a kind, each with its own name if it has one."""

    def request(size: int) -> Json:
        named = fields.get("name")
        return asking(
            tools=[
                {**fields, **({"name": f"{named}{number}"} if named else {})}
                for number in range(size)
            ]
        )

    return request


REQUESTS: dict[str, tuple[Callable[[int], Json], ProviderProfile]] = {
    "user_id": (
        lambda size: asking(metadata={"user_id": "user_" + "_session_" * size + "!"}),
        GENERIC,
    ),
    "nested alternatives": (
        lambda size: schema(nested({"properties": properties(size)}, lambda s: {"anyOf": [s]})),
        GENERIC,
    ),
    "nested alternatives, each with a small one": (
        lambda size: schema(
            nested(
                {"properties": properties(size)},
                lambda s: {"oneOf": [{"properties": {"property_1": {}}}, s]},
            )
        ),
        GENERIC,
    ),
    "nested allOf": (
        lambda size: schema(
            nested({"properties": properties(size)}, lambda s: {"allOf": [s, {"required": ["a"]}]})
        ),
        GENERIC,
    ),
    "many alternatives": (
        lambda size: schema(
            {"anyOf": [{"properties": {"a": {"const": n}, f"b{n}": {}}} for n in range(size)]}
        ),
        GENERIC,
    ),
    "references to one definition": (lambda size: schema(references(size)), GENERIC),
    "references into alternatives": (
        lambda size: schema(
            {"anyOf": [{"properties": {"a": {"$ref": f"#/anyOf/{n}"}}} for n in range(size)]}
        ),
        GENERIC,
    ),
    "nested requirements": (
        lambda size: schema(
            nested(
                {"required": [f"r{n}" for n in range(size)]},
                lambda s: {"anyOf": [s, {"required": ["r1"]}]},
            )
        ),
        GENERIC,
    ),
    "formats": (
        lambda size: schema(
            {"properties": {f"p{n}": {"format": "uri", "pattern": "\\p{L}"} for n in range(size)}}
        ),
        GENERIC,
    ),
    "output format": (
        lambda size: asking(
            output_config={"format": {"type": "json_schema", "schema": references(size)}}
        ),
        BY_NAME["deepseek"],
    ),
    "custom tools": (
        tools(name="tool_", input_schema={"anyOf": [{}, {"properties": {"a": {}}}]}),
        GENERIC,
    ),
    "tools of a dated type": (tools(type="computer_20251124", name="c"), GENERIC),
    "tools of types with any dates": (
        lambda size: asking(
            tools=[{"type": f"computer_{n}", "name": f"c{n}"} for n in range(size)]
        ),
        GENERIC,
    ),
    "toolsets": (tools(type="browser_toolset_20260801"), GENERIC),
    "unavailable tools": (tools(type="web_search_20250305", name="w"), GENERIC),
    "changed tools": (changed_tools, GENERIC),
    "MCP servers": (
        lambda size: asking(mcp_servers=[{"name": f"m{n}"} for n in range(size)]),
        GENERIC,
    ),
    "colliding ids of calls": (colliding_ids, GENERIC),
    "thinking": (thoughts, OPENROUTER),
    "a result without a call": (orphan, GENERIC),
    "nested documents": (nested_documents, GENERIC),
    "calls with one id": (turns, GENERIC),
    "calls in one turn": (one_turn, GENERIC),
    "system messages": (roles, OPENROUTER),
    "servers' tools": (server_tools, GENERIC),
    "marks of caching": (
        lambda size: asking(
            *[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}] * size
        ),
        OPENROUTER,
    ),
    "system blocks": (
        lambda size: asking(system=[{"type": "text", "text": "a"}] * size),
        OPENROUTER,
    ),
    "efforts": (
        lambda size: asking(
            messages=[{"role": "user", "content": "a", "output_config": {"effort": "low"}}] * size
        ),
        GENERIC,
    ),
    "unknown fields": (lambda size: asking(**{f"field_{n}": n for n in range(size)}), GENERIC),
    "names in edits": (edits, GENERIC),
    "edits": (many_edits("clear_tool_uses_20250919"), GENERIC),
    "edits that compact": (many_edits("compact_20260112"), GENERIC),
    "problems": (lambda size: asking(messages=[1] * size), GENERIC),
}


def translated(raw: bytes, dialect: ProviderProfile) -> bytes:
    """The upstream's body for a request; nothing for one that is refused."""
    with suppress(ApiError, InvalidRequestError):
        request, _ = apply_edits(expand_compaction_blocks(parse_messages_request(raw)), _count)
        compaction.plan_summary(request, _count)
        body = to_chat_request(request, Route(Upstream("up", "http://up/v1", dialect), "m")).body
        estimate_request(body)
        return dumps(body)
    return b""


def assert_linear(prepare: Prepare, size: int) -> None:
    """As assert_linear_cpu, with short work repeated.

    Larger requests would be refused, or take other paths.
    """
    work = prepare(size)
    began = time.process_time()
    work()
    repetitions = range(1 + int(SHORTEST_RUN / max(time.process_time() - began, 1e-5)))

    def repeated(size: int) -> Callable[[], object]:
        work = prepare(size)
        return lambda: [work() for _ in repetitions]

    assert_linear_cpu(repeated, size)


def _count(request: JsonObject) -> int:
    return estimate_untranslated(request).total


@pytest.mark.parametrize("name", REQUESTS)
def test_time_is_linear(name: str) -> None:
    build, dialect = REQUESTS[name]

    def prepare(size: int) -> Callable[[], object]:
        raw = dumps(build(size))
        return lambda: translated(raw, dialect)

    assert_linear(prepare, 250)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_body_is_not_much_larger(name: str) -> None:
    build, dialect = REQUESTS[name]
    size = 100
    while len(dumps(build(size))) < 200_000:
        size *= 2
    raw = dumps(build(size))
    assert len(translated(raw, dialect)) < LARGEST_FACTOR * len(raw)


def test_messages_before_a_user_without_a_system_role() -> None:
    def prepare(size: int) -> Callable[[], object]:
        messages = [{"role": "system", "content": "Mind the gap " * 10}] * size + [
            {"role": "user", "content": "a"}
        ]
        return lambda: merge_system_into_user(messages)

    assert_linear(prepare, 300)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            lambda size: b'{"model":"a"' + b',"messages":[]' * size + b',"messages":%s}',
            id="repeated members",
        ),
        pytest.param(
            lambda size: b'{"model":"a","x":[' + b"[]," * size + b'1],"messages":%s}', id="arrays"
        ),
    ],
)
def test_bodies_that_are_passed_through(document: Callable[[int], bytes]) -> None:
    def prepare(size: int) -> Callable[[], object]:
        block = {"type": "thinking", "thinking": "a", "signature": "anthropic-proxy.1.reasoning"}
        said = [{"type": "text", "text": "b"}] * size
        raw = document(size) % dumps([{"role": "assistant", "content": [block, *said]}])
        body = parse_messages_body(raw)
        return lambda: passthrough.build_request_body(body.raw, body.request, "b", {})

    assert_linear(prepare, 200)
