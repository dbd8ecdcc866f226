"""Any valid request: hypothesis strategies for messages of the API with all content blocks.

Each table has a strategy for each block type, so that a new type is one more row. Texts are short
and of few letters, so that equal ones occur.
"""

import functools
from typing import Any

from hypothesis import strategies as st

from tests.support.pdfs import base64_of, pdf

Json = dict[str, Any]

TEXTS = st.text("ab \n<é😀", max_size=6)
NAMES = st.sampled_from(["read", "mcp__server__" + "x" * 60, "a.b", "é"])
TOOL_IDS = st.sampled_from(["t1", "t2", "t3", "call.4", "x" * 50])
MAYBE_TEXT = st.none() | TEXTS
# What servers have sent in places where nobody checks.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def record(
    kind: str, optional: dict[str, Any] | None = None, **fields: Any
) -> st.SearchStrategy[Json]:
    """A block of a type; `optional` fields may be absent."""
    marks = {"cache_control": st.just({"type": "ephemeral"})}
    return st.fixed_dictionaries(
        {"type": st.just(kind), **fields}, optional={**marks, **(optional or {})}
    )


def blocks(table: dict[str, st.SearchStrategy[Json]]) -> st.SearchStrategy[list[Json]]:
    return st.lists(st.one_of(*table.values()), max_size=4)


@functools.cache
def document_data() -> list[str]:
    return [base64_of(pdf("One.", "")), base64_of(pdf("Two."))]


TEXT = record("text", {"citations": st.sampled_from([None, []])}, text=TEXTS)
URL = record("url", url=st.just("https://example.com/a"))
FILE = record("file", file_id=st.just("file_1"))
IMAGE = record(
    "image",
    {"transformations": st.just({"oversized_image": "downsize"})},
    source=URL
    | record(
        "base64",
        media_type=st.sampled_from(["image/png", "image/jpg"]),
        data=st.just("iVBORw0KGgo="),
    ),
)
DOCUMENT = record(
    "document",
    {
        "title": MAYBE_TEXT,
        "context": MAYBE_TEXT,
        "citations": st.sampled_from([None, {"enabled": True}]),
    },
    source=st.one_of(
        record(
            "base64",
            media_type=st.just("application/pdf"),
            data=st.deferred(lambda: st.sampled_from(document_data())),
        ),
        record(
            "base64",
            media_type=st.sampled_from(["text/plain", "text/csv; charset=x"]),
            data=st.sampled_from(["YQ==", "/w=="]),
        ),
        record("text", media_type=st.just("text/plain"), data=TEXTS),
        record("content", content=TEXTS | st.lists(TEXT | IMAGE, max_size=2)),
        URL,
    ),
)
SEARCH_RESULT = record(
    "search_result", source=TEXTS, title=TEXTS, content=st.lists(TEXT, max_size=2)
)
TOOL_REFERENCE = record("tool_reference", tool_name=NAMES)
BROWSER_STATE = record(
    "browser_state",
    {
        "state_changes": st.none()
        | st.lists(record("download_failed", url=TEXTS, error=MAYBE_TEXT), max_size=2)
    },
    tabs=st.lists(
        st.fixed_dictionaries(
            {"tab_id": TEXTS, "title": TEXTS, "url": TEXTS}, optional={"active": st.booleans()}
        ),
        max_size=2,
    ),
)
UNKNOWN = record("hologram", {"data": ANYTHING})

INNER = {
    "text": TEXT,
    "image": IMAGE,
    "document": DOCUMENT,
    "search_result": SEARCH_RESULT,
    "tool_reference": TOOL_REFERENCE,
    "browser_state": BROWSER_STATE,
    "unknown": UNKNOWN,
}
TOOL_RESULT = record(
    "tool_result",
    {"content": st.none() | TEXTS | blocks(INNER), "is_error": st.booleans()},
    tool_use_id=TOOL_IDS,
)
TOOL_USE = record(
    "tool_use",
    {"caller": st.just({"type": "direct"})},
    id=TOOL_IDS,
    name=NAMES,
    input=st.just({"a": [1]}),
)
REDACTED = record("redacted_thinking", data=st.just("b3BhcXVl"))
THINKING = record(
    "thinking",
    {
        "signature": st.sampled_from(
            ["", "other", "anthropic-proxy.1.reasoning", "anthropic-proxy.1.reasoning_content"]
        )
    },
    thinking=TEXTS,
)


def result(kind: str, *contents: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    failed = record(
        f"{kind}_error", {"error_message": MAYBE_TEXT}, error_code=st.just("unavailable")
    )
    return record(
        kind,
        {"content": st.one_of(failed, ANYTHING, *contents), "caller": ANYTHING},
        tool_use_id=TOOL_IDS,
    )


FETCHED = record("web_fetch_result", {"content": DOCUMENT | ANYTHING}, url=TEXTS)
EXECUTED = record(
    "code_execution_result", {"return_code": ANYTHING}, stdout=TEXTS, stderr=TEXTS, content=ANYTHING
)
EDITED = record("edited", {"content": ANYTHING, "is_file_update": ANYTHING, "lines": ANYTHING})
SERVER_TOOLS = {
    "server_tool_use": record(
        "server_tool_use", {"id": TOOL_IDS, "name": ANYTHING, "input": ANYTHING}
    ),
    "mcp_tool_use": record(
        "mcp_tool_use", {"server_name": TEXTS}, id=TOOL_IDS, name=NAMES, input=st.just({})
    ),
    "mcp_tool_result": record(
        "mcp_tool_result",
        {"content": TEXTS | st.lists(TEXT, max_size=2), "is_error": st.booleans()},
    ),
    "web_search": result(
        "web_search_tool_result",
        st.lists(record("web_search_result", url=TEXTS, title=TEXTS), max_size=2),
    ),
    "web_fetch": result("web_fetch_tool_result", FETCHED),
    "code": result("code_execution_tool_result", EXECUTED),
    "bash": result("bash_code_execution_tool_result", EXECUTED),
    "editor": result("text_editor_code_execution_tool_result", EDITED),
    "tool_search": result(
        "tool_search_tool_result",
        record("found", tool_references=st.lists(TOOL_REFERENCE, max_size=2)),
    ),
    "advisor": result("advisor_tool_result", record("advisor_result", text=ANYTHING)),
    "mcp_tool_listing": record("mcp_tool_listing", mcp_server_name=TEXTS, tools=ANYTHING),
    "fallback": record("fallback", {"from": ANYTHING, "to": ANYTHING}),
}
USER = {
    **INNER,
    **SERVER_TOOLS,
    "tool_result": TOOL_RESULT,
    "tool_use": TOOL_USE,
    "thinking": THINKING,
    "redacted": REDACTED,
}
ASSISTANT = {**USER, "container_upload": record("container_upload", file_id=TEXTS)}
SYSTEM = {
    "text": TEXT,
    "tool_addition": record(
        "tool_addition", tool=st.just({"type": "tool_reference", "name": "read"})
    ),
    "tool_removal": record(
        "tool_removal", tool=st.just({"type": "tool_reference", "name": "read"})
    ),
    "unknown": UNKNOWN,
}

MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS | blocks(USER)}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": TEXTS | blocks(ASSISTANT)}),
    # A call and what a client makes of it, so that they meet often.
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.lists(TEXT | TOOL_USE, min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.lists(TOOL_RESULT, min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries(
        {"role": st.just("system")},
        optional={
            "content": st.none() | TEXTS | blocks(SYSTEM),
            "clear_at": st.sampled_from([None, "never", "next_user_message"]),
            "output_config": st.just({"effort": "low"}),
        },
    ),
)
REQUEST = st.fixed_dictionaries(
    {
        "model": st.just("m"),
        "max_tokens": st.just(9),
        "messages": st.lists(MESSAGE, min_size=1, max_size=6),
    },
    optional={"system": TEXTS | blocks(SYSTEM)},
)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=8,
)
