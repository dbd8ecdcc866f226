"""W3C Trace Context (https://www.w3.org/TR/trace-context/): parse and create its headers.

Random ids are arguments of the functions. With invalid headers a new trace starts; the request is
not rejected. `tracestate` belongs to other vendors, so it is forwarded unchanged or dropped.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# Flags of section 3.2.2.5 and of Level 2
# (https://www.w3.org/TR/trace-context-2/#random-trace-id-flag).
SAMPLED = 0x01
RANDOM = 0x02

# Versions after 00 may have more fields (section 3.2.4).
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})((?:-.*)?)"
)
# Characters that are valid in a header.
_PRINTABLE = re.compile(r"[\t\x20-\x7e]*")
# Section 3.3.1.1.
_MAX_MEMBERS = 32
# Four times the size that participants should propagate (section 3.3.1.5).
_MAX_CHARACTERS = 2048


@dataclass(frozen=True)
class TraceContext:
    """One span of a trace."""

    # 32 hexadecimal digits.
    trace_id: str
    # 16 hexadecimal digits.
    span_id: str
    # Flags of `traceparent`.
    flags: int
    # Unchanged value of `tracestate`.
    state: str = ""

    @property
    def is_sampled(self) -> bool:
        """True if participants should record the trace."""
        return bool(self.flags & SAMPLED)

    def child(self, span_id: str) -> "TraceContext":
        """Return another span of the same trace."""
        return replace(self, span_id=span_id)

    def with_sampling(self, *, is_sampled: bool) -> "TraceContext":
        """Return the same span with another sampling decision."""
        flags = self.flags & ~SAMPLED
        if is_sampled:
            flags |= SAMPLED
        return replace(self, flags=flags)

    def headers(self) -> dict[str, str]:
        """Return the headers for requests within this span, with lower-case names."""
        headers = {TRACEPARENT: f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        if self.state:
            headers[TRACESTATE] = self.state
        return headers


def start_trace(trace_id: str, span_id: str) -> TraceContext:
    """Return the first span of a new trace. The ids must be random."""
    return TraceContext(trace_id, span_id, SAMPLED | RANDOM)


def parse_trace_headers(headers: Iterable[tuple[str, str]]) -> TraceContext | None:
    """Return the span of the client; None without a valid `traceparent`.

    headers: pairs of lower-case name and value, one for each header line.
    """
    parents = []
    states = []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value.strip(" \t"))
        elif name == TRACESTATE:
            states.append(value.strip(" \t"))
    if len(parents) != 1:
        return None
    match = _TRACEPARENT.fullmatch(parents[0])
    if match is None:
        return None
    version, trace_id, span_id, flags, more_fields = match.groups()
    if version == "00" and more_fields:
        return None
    # Undefined flags are set to zero (3.2.2.5.2).
    return TraceContext(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM), _join_state(states))


def _join_state(lines: list[str]) -> str:
    """Join header lines (section 3.3.1). Return an empty string if too long or invalid."""
    state = ",".join(filter(None, lines))
    if len(state) > _MAX_CHARACTERS or state.count(",") >= _MAX_MEMBERS:
        return ""
    if not _PRINTABLE.fullmatch(state):
        return ""
    return state
