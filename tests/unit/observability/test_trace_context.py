"""Trace Context: parsing of client headers and creation of upstream headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.observability.trace_context import (
    TraceContext,
    parse_trace_headers,
    start_trace,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("traceparent", "flags"),
    [
        pytest.param(PARENT, 1, id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", 0, id="not-sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", 3, id="random"),
        pytest.param(f"00-{TRACE}-{SPAN}-ff", 3, id="flags-of-the-future"),
        pytest.param(f"01-{TRACE}-{SPAN}-01", 1, id="version-of-the-future"),
        pytest.param(
            f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1, id="fields-of-the-future"
        ),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-", 1, id="empty-field-of-the-future"),
        pytest.param(f"\t{PARENT} ", 1, id="white-space"),
        pytest.param(
            f"cc-{TRACE}-{SPAN}-01.what-the-future-will-not-be-like", None, id="other-separator"
        ),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="forbidden-version"),
        pytest.param(f"0-{TRACE}-{SPAN}-01", None, id="short-version"),
        pytest.param(f"{PARENT}-", None, id="version-00-with-more"),
        pytest.param(f"{PARENT}-more", None, id="version-00-with-a-field-more"),
        pytest.param(PARENT.upper(), None, id="upper-case"),
        pytest.param(f"00-{TRACE[:-1]}A-{SPAN}-01", None, id="one-upper-case"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no-span"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}-01", None, id="short-trace"),
        pytest.param(f"00-{TRACE}0-{SPAN}-01", None, id="long-trace"),
        pytest.param(f"00-{TRACE}-{SPAN}0-01", None, id="long-span"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", None, id="short-flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-0x", None, id="no-flags"),
        pytest.param(f"00-{TRACE}-{SPAN}", None, id="without-flags"),
        pytest.param(f"{PARENT},{PARENT}", None, id="two"),
        pytest.param("", None, id="empty"),
        pytest.param("\N{SNOWMAN}", None, id="no-ascii"),
        pytest.param(f"{PARENT}\n", None, id="line-end"),
    ],
)
def test_traceparent_is_parsed(traceparent: str, flags: int | None) -> None:
    expected = None if flags is None else TraceContext(TRACE, SPAN, flags, "a=1")
    assert parse_trace_headers([("traceparent", traceparent), ("tracestate", "a=1")]) == expected


def test_repeated_and_missing_traceparents_are_ignored() -> None:
    assert parse_trace_headers([("traceparent", PARENT), ("traceparent", PARENT)]) is None
    assert parse_trace_headers([("tracestate", "a=1")]) is None


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        pytest.param(["a=1,b@c=x y"], "a=1,b@c=x y", id="as-it-is"),
        pytest.param(["a=1", "", " b=2 "], "a=1,b=2", id="lines"),
        pytest.param([""], "", id="empty"),
        pytest.param([",".join(f"k{number}=1" for number in range(32))], None, id="most-members"),
        pytest.param([",".join(f"k{number}=1" for number in range(33))], "", id="too-many-members"),
        pytest.param(["a=" + "x" * 2046], None, id="longest"),
        pytest.param(["a=" + "x" * 2047], "", id="too-long"),
        pytest.param(["a=\u00e9"], "", id="no-ascii"),
        pytest.param(["a=1\r\nb: 2"], "", id="line-end"),
    ],
)
def test_tracestate_is_parsed(lines: list[str], state: str | None) -> None:
    """A `state` of None expects the first line unchanged."""
    context = parse_trace_headers(
        [("traceparent", PARENT), *(("tracestate", line) for line in lines)]
    )
    assert context is not None
    assert context.state == (lines[0] if state is None else state)


@given(
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 3),
    st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), max_size=100
    ),
)
def test_created_headers_can_be_parsed(trace: int, span: int, flags: int, state: str) -> None:
    context = TraceContext(f"{trace:032x}", f"{span:016x}", flags, state)
    assert parse_trace_headers(context.headers().items()) == context
    assert parse_trace_headers(context.child(SPAN).headers().items()) == TraceContext(
        context.trace_id, SPAN, flags, state
    )


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_headers_are_parsed_without_error(traceparent: str, tracestate: str) -> None:
    context = parse_trace_headers([("traceparent", traceparent), ("tracestate", tracestate)])
    assert context is None or parse_trace_headers(context.headers().items()) == context


def test_a_new_trace_is_sampled() -> None:
    context = start_trace(TRACE, SPAN)
    assert context.headers() == {"traceparent": f"00-{TRACE}-{SPAN}-03"}
    assert context.is_sampled
    assert context.with_sampling(is_sampled=False).headers() == {
        "traceparent": f"00-{TRACE}-{SPAN}-02"
    }
    assert context.with_sampling(is_sampled=False).with_sampling(is_sampled=True) == context
