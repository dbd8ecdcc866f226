"""What is known of one upstream model, from its refusals and answers; and a request on its way to it.

Changes that made it take a request are made to the next ones from the start. They are forgotten after an hour, so that an
upstream that has changed is found out: it costs one refused request. The clock is the caller's.
"""

from dataclasses import dataclass, field

from anthropic_proxy.errors import MISSING_PATH_STATUSES
from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.conditions import Condition
from anthropic_proxy.translate.adaptation.rules import find_change
from anthropic_proxy.translate.apis import APIS, Api
from anthropic_proxy.translate.responses_api.refusals import requires_responses_api
from anthropic_proxy.translate.upstream_errors import UpstreamFailure, parse_context_sizes
from anthropic_proxy.wire.json_codec import JsonObject

# Seconds.
_TTL_SECONDS = 3600.0
_MAX_CHANGES = 32
# Refused fields come to light one at a time; a request of the real clients has at most this many that could be refused.
_MAX_CHANGES_PER_REQUEST = 8
# Tokens; an estimate of the prompt may be this much too low.
_MARGIN_TOKENS = 256
_MIN_RESPONSE_TOKENS = 1024


@dataclass(frozen=True)
class _ChangeEntry:
    change: RequestChange
    since: float


@dataclass
class ModelMemory:
    """What is known of one upstream model."""

    # The API to use, where the upstream has named one.
    api: str | None = None
    # Tokens of prompt and response together; 0 while unknown.
    context_window: int = 0
    # Whether responses begin inside a reasoning block that the chat template has opened. By whether the request forbids
    # thinking, as templates open no block for those that do.
    opens_thinking: dict[bool, bool] = field(default_factory=dict)
    # The one learned last is made last. Of changes that differ in their value alone, that one counts.
    _changes: dict[tuple[str, str, tuple[Condition, ...]], _ChangeEntry] = field(
        default_factory=dict
    )
    _context_window_since: float = 0.0
    _api_since: float = 0.0

    def apply_to(self, body: JsonObject, prompt_tokens: int, now: float) -> JsonObject:
        """Return the request with the changes that the model needs.

        prompt_tokens: the estimate for the prompt. now: in seconds.
        """
        self._expire(now)
        for entry in self._changes.values():
            body = entry.change.apply(body)
        room = self.context_window - round(prompt_tokens * 1.1) - _MARGIN_TOKENS
        return (
            RequestChange("room", "max_tokens", room).apply(body)
            if room >= _MIN_RESPONSE_TOKENS
            else body
        )

    def record_changes(self, changes: list[RequestChange], now: float) -> None:
        """Record the changes that made the model accept a request, in their order."""
        for change in changes:
            key = (change.change, change.field, change.conditions)
            self._changes.pop(key, None)
            self._changes[key] = _ChangeEntry(change, now)
        while len(self._changes) > _MAX_CHANGES:
            del self._changes[next(iter(self._changes))]

    def set_api(self, api: str, now: float) -> None:
        """Use this API from now on."""
        self.api, self._api_since = api, now

    def record_refusal(self, failure: UpstreamFailure, now: float) -> None:
        """Record a refusal, which may state the context window."""
        window = parse_context_sizes(failure).limit
        if window:
            self.context_window, self._context_window_since = window, now

    def record_prompt(self, prompt_tokens: int) -> None:
        """Record the upstream's token count of a served prompt: one that fills the window shows that it has grown."""
        if prompt_tokens >= self.context_window:
            self.context_window = 0

    def describe(self) -> JsonObject:
        """Return the memory as JSON: changes, API, context window in tokens, and whether responses open with reasoning."""
        return {
            "changes": [_describe_change(entry.change) for entry in self._changes.values()],
            "api": self.api,
            "context_window": self.context_window or None,
            "opens_thinking": any(self.opens_thinking.values()),
        }

    def other_api(self, refusal: UpstreamFailure) -> str | None:
        """Return the API to use instead of the current one; None when the refusal is not about the API.

        An upstream may name the Responses API without having it.
        """
        if self.api is None:
            return "responses" if requires_responses_api(refusal) else None
        is_missing = self.api == "responses" and refusal.status in MISSING_PATH_STATUSES
        return "chat_completions" if is_missing else None

    def _expire(self, now: float) -> None:
        self._changes = {
            key: entry for key, entry in self._changes.items() if now - entry.since < _TTL_SECONDS
        }
        if now - self._context_window_since >= _TTL_SECONDS:
            self.context_window = 0
        if now - self._api_since >= _TTL_SECONDS:
            self.api = None


class RequestAdapter:
    """Adapts one request to the refusals of its model. `body` is the request to send; the caller sends it."""

    def __init__(
        self, memory: ModelMemory, api: Api, body: JsonObject, prompt_tokens: int, now: float
    ) -> None:
        """Apply what `memory` knows to `body`, a Chat Completions request.

        prompt_tokens: the estimate for the prompt. now: in seconds, as in the other methods.
        """
        self._api = api
        self.body = memory.apply_to(body, prompt_tokens, now)
        self._memory = memory
        self._changes: list[RequestChange] = []
        self._bodies = [self.body]

    def adapt_to(self, failure: UpstreamFailure, now: float) -> RequestChange | None:
        """Apply the change that a refusal requires to `body`, and return it; None when nothing is left to try."""
        self._memory.record_refusal(failure, now)
        if (
            self._memory.api is None
            and self._api is APIS["chat_completions"]
            and requires_responses_api(failure)
        ):
            return None
        change = (
            self._find_change(failure) if len(self._changes) < _MAX_CHANGES_PER_REQUEST else None
        )
        if change is None:
            return None
        body = change.apply(self.body)
        if body in self._bodies:
            # Two refusals contradict each other: the upstream has refused this request already.
            return None
        self._changes.append(change)
        self._bodies.append(body)
        self.body = body
        return change

    def _find_change(self, failure: UpstreamFailure) -> RequestChange | None:
        return self._api.find_change(failure, self.body) or find_change(
            self._api.to_chat_failure(failure), self.body
        )

    def record_success(self, now: float) -> None:
        """Remember the changes that apply to the model, which has accepted the request."""
        self._memory.record_changes([change for change in self._changes if change.is_lasting], now)


def _describe_change(change: RequestChange) -> JsonObject:
    description: JsonObject = {"change": change.change, "field": change.field}
    if change.value is not None:
        description["value"] = [*change.value] if isinstance(change.value, tuple) else change.value
    return description | ({"when": dict(change.conditions)} if change.conditions else {})
