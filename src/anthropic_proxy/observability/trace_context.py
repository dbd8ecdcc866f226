"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to, read from its headers and
written into those of the requests that it causes. Random ids come in as arguments.

What is not valid is ignored, and never a reason to refuse a request: a new trace begins then. `tracestate` belongs to
others, so it goes on as it came, or not at all.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# The flags of section 3.2.2.5, and of Level 2 (https://www.w3.org/TR/trace-context-2/#random-trace-id-flag).
SAMPLED = 0x01
RANDOM = 0x02

# A version after 00 may have more fields; 00 has not (section 3.2.4).
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})((?:-.*)?)"
)
# Of other characters a header can't be made.
_PRINTABLE = re.compile(r"[\t\x20-\x7e]*")
# Section 3.3.1.1; and four times of what everybody should take (3.3.1.5).
_MAX_MEMBERS = 32
_MAX_CHARACTERS = 2048


@dataclass(frozen=True)
class TraceContext:
    """One span of a trace: ids in hexadecimal (32 and 16 digits), flags of `traceparent`, and `tracestate` as it came."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def is_sampled(self) -> bool:
        """Whether those who take part should record the trace."""
        return bool(self.flags & SAMPLED)

    def child(self, span_id: str) -> "TraceContext":
        """Another span of the same trace."""
        return replace(self, span_id=span_id)

    def with_sampling(self, *, is_sampled: bool) -> "TraceContext":
        """The same span, recorded or not."""
        return replace(self, flags=self.flags | SAMPLED if is_sampled else self.flags & ~SAMPLED)

    def headers(self) -> dict[str, str]:
        """What a request has that this span causes. For names in lower case see section 3.2.1."""
        fields = {TRACEPARENT: f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        return fields | {TRACESTATE: self.state} if self.state else fields


def start_trace(trace_id: str, span_id: str) -> TraceContext:
    """The first span of a new trace, with random ids."""
    return TraceContext(trace_id, span_id, SAMPLED | RANDOM)


def parse_trace_headers(headers: Iterable[tuple[str, str]]) -> TraceContext | None:
    """The span of the client's that a request with these headers belongs to; names in lower case, each line on its own.
    None when they tell of none, or not in a valid way.
    """
    lines: dict[str, list[str]] = {TRACEPARENT: [], TRACESTATE: []}
    for name, value in headers:
        if name in lines:
            lines[name].append(value.strip(" \t"))
    match = _TRACEPARENT.fullmatch(lines[TRACEPARENT][0]) if len(lines[TRACEPARENT]) == 1 else None
    if match is None or (match[1] == "00" and match[5]):
        return None
    # Those of the flags that are not defined are set to zero (3.2.2.5.2).
    return TraceContext(
        match[2], match[3], int(match[4], 16) & (SAMPLED | RANDOM), _join_state(lines[TRACESTATE])
    )


def _join_state(lines: list[str]) -> str:
    """The lines as one, which is the same (3.3.1); nothing when it is too long, or has what no header may have."""
    state = ",".join(filter(None, lines))
    is_valid = (
        len(state) <= _MAX_CHARACTERS
        and state.count(",") < _MAX_MEMBERS
        and _PRINTABLE.fullmatch(state)
    )
    return state if is_valid else ""
