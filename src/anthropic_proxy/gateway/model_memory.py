"""Remember the request changes that an upstream model needs, and adapt requests to its refusals.

Changes that made the model accept a request are applied to later requests before they are sent.
Each change expires after an hour, because the upstream may have been updated. If it was not, one
request is refused and changed again. The caller passes the time, in seconds of any clock.
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.errors import MISSING_PATH_STATUSES
from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.rules import find_change
from anthropic_proxy.translate.apis import APIS, Api
from anthropic_proxy.translate.context_overflow import parse_context_sizes
from anthropic_proxy.translate.responses_api.refusals import requires_responses_api
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject

_TTL_SECONDS = 3600.0
_MAX_CHANGES = 32
# An upstream refuses one field at a time. Requests of real clients have no more refusable fields.
# Refused tools do not count: `MAX_UPSTREAM_REQUESTS` limits them.
_MAX_CHANGES_PER_REQUEST = 8
# Tokens. The estimate of a prompt may be too low by 10 % and this number.
_MARGIN_TOKENS = 256
# Tokens. If less room is left for the response, `max_tokens` is not reduced.
_MIN_RESPONSE_TOKENS = 1024

# The change for models that write ids of tool calls in their own form (Kimi K2).
_NUMBER_CALLS = RequestChange("change_call_ids", "messages", "numbered")


@dataclass(frozen=True)
class _ChangeEntry:
    change: RequestChange
    since: float


@dataclass
class ModelMemory:
    """The memory of one upstream model."""

    # The API to use; None for the configured API.
    api: str | None = None
    # Tokens of the prompt and the response together; 0 if unknown.
    context_window: int = 0
    # Whether responses begin inside a reasoning block that the chat template has opened. The key is
    # whether the request forbids thinking, because templates then open no reasoning block.
    opens_thinking: dict[bool, bool] = field(default_factory=dict)
    # In the order in which the changes are applied. A newer change replaces an older one that has
    # the same key.
    _changes: dict[tuple[Any, ...], _ChangeEntry] = field(default_factory=dict)
    _context_window_since: float = 0.0
    _api_since: float = 0.0

    def apply_to(self, body: JsonObject, prompt_tokens: int, now: float) -> JsonObject:
        """Return the request with the changes that the model needs.

        prompt_tokens: the estimated tokens of the prompt.
        """
        self._expire(now)
        for entry in self._changes.values():
            body = entry.change.apply(body)
        change = _fit_output(self.context_window, _with_margin(prompt_tokens))
        return body if change is None else change.apply(body)

    def record_changes(self, changes: list[RequestChange], now: float) -> None:
        """Record the changes that made the model accept a request, in the given order."""
        for change in changes:
            # The newest change is applied last.
            self._changes.pop(change.key, None)
            self._changes[change.key] = _ChangeEntry(change, now)
        while len(self._changes) > _MAX_CHANGES:
            del self._changes[next(iter(self._changes))]

    def record_native_call_ids(self, now: float) -> None:
        """Record that the model writes ids of tool calls in its own form, and so expects them.

        A server may still refuse these ids.
        """
        entry = self._changes.get(_NUMBER_CALLS.key)
        if entry is None or entry.change == _NUMBER_CALLS:
            self.record_changes([_NUMBER_CALLS], now)

    def set_api(self, api: str, now: float) -> None:
        """Use this API for later requests."""
        self.api = api
        self._api_since = now

    def record_refusal(self, failure: UpstreamFailure, now: float) -> None:
        """Record the context window if the text of a refusal contains it."""
        window = parse_context_sizes(failure).window
        if window:
            self.context_window = window
            self._context_window_since = now

    def record_prompt(self, prompt_tokens: int) -> None:
        """Record the token count that the upstream reported for an accepted prompt.

        An accepted prompt that fills the recorded context window shows that the window is larger.
        """
        if prompt_tokens >= self.context_window:
            self.context_window = 0

    def get_context_window(self, now: float) -> int:
        """Return the recorded context window in tokens; 0 if it is unknown or has expired."""
        self._expire(now)
        return self.context_window

    def describe(self) -> JsonObject:
        """Return the memory as JSON. `context_window` is in tokens."""
        return {
            "changes": [_describe_change(entry.change) for entry in self._changes.values()],
            "api": self.api,
            "context_window": self.context_window or None,
            "opens_thinking": any(self.opens_thinking.values()),
        }

    def other_api(self, used_api: str, refusal: UpstreamFailure) -> str | None:
        """Return the API to use instead of the refused one; None if the API is not the reason.

        An upstream may require the Responses API although it does not have it.

        used_api: the API of the refused request. Another request may have changed `api` since.
        """
        if used_api == "responses":
            return "chat_completions" if refusal.status in MISSING_PATH_STATUSES else None
        if self.api != "chat_completions" and requires_responses_api(refusal):
            return "responses"
        return None

    def _expire(self, now: float) -> None:
        for key, entry in list(self._changes.items()):
            if now - entry.since >= _TTL_SECONDS:
                del self._changes[key]
        if now - self._context_window_since >= _TTL_SECONDS:
            self.context_window = 0
        if now - self._api_since >= _TTL_SECONDS:
            self.api = None


class RequestAdapter:
    """Adapts one request to the refusals of its model. The caller sends the current `body`."""

    def __init__(
        self, memory: ModelMemory, api: Api, body: JsonObject, prompt_tokens: int, now: float
    ) -> None:
        """Apply the remembered changes to `body`, a Chat Completions request.

        prompt_tokens: the estimated tokens of the prompt.
        """
        self._api = api
        self.body = memory.apply_to(body, prompt_tokens, now)
        self._memory = memory
        self._prompt_tokens = prompt_tokens
        self._changes: list[RequestChange] = []
        self._bodies = [self.body]
        # The texts of refusals, each with the change and the field that it led to.
        self._refusals: set[tuple[str, str, str]] = set()

    def adapt_to(self, failure: UpstreamFailure, now: float) -> RequestChange | None:
        """Apply the change that a refusal requires to `body`, and return the change.

        Return None if the request cannot be adapted, so that the caller must raise the failure:

        - the model requires another API (see `needs_other_api`);
        - no rule recognizes the refusal;
        - the upstream has already refused the changed request;
        - the same text has already led to the same change, of which the upstream takes no notice.
        """
        self._memory.record_refusal(failure, now)
        if self.needs_other_api(failure):
            return None
        change = self._find_change(failure)
        if change is None or not self._is_allowed(change):
            return None
        body = change.apply(self.body)
        if body in self._bodies:
            # Two refusals are contradictory.
            return None
        refusal = (failure.text, change.change, change.field)
        if refusal in self._refusals and not change.concerns_one_tool:
            return None
        self._refusals.add(refusal)
        self._changes.append(change)
        self._bodies.append(body)
        self.body = body
        return change

    def _is_allowed(self, change: RequestChange) -> bool:
        if change.concerns_one_tool:
            return True
        others = [each for each in self._changes if not each.concerns_one_tool]
        return len(others) < _MAX_CHANGES_PER_REQUEST

    def needs_other_api(self, failure: UpstreamFailure) -> bool:
        """Return whether the model accepts the request only in another API.

        The caller then selects that API with `ModelMemory.other_api`.
        """
        if self._api is not APIS["chat_completions"]:
            return False
        return self._memory.other_api("chat_completions", failure) is not None

    def record_changes(self, now: float) -> None:
        """Record the changes that apply to the model and not only to this request.

        Call this when the model has accepted the request, or when no more requests may be sent.
        """
        lasting = [change for change in self._changes if change.is_lasting]
        self._memory.record_changes(lasting, now)

    def _find_change(self, failure: UpstreamFailure) -> RequestChange | None:
        api = self._api
        return (
            api.find_change(failure, self.body)
            or find_change(api.to_chat_failure(failure), self.body)
            or self._fit_estimated_prompt(failure)
            or api.find_last_change(failure, self.body)
        )

    def _fit_estimated_prompt(self, failure: UpstreamFailure) -> RequestChange | None:
        """Return the change for a context overflow that does not state the size of the prompt."""
        sizes = parse_context_sizes(failure)
        if sizes.prompt and not sizes.is_lower_bound:
            return None
        prompt_tokens = max(_with_margin(self._prompt_tokens), sizes.prompt)
        change = _fit_output(sizes.window, prompt_tokens)
        if change is None or change.apply(self.body) == self.body:
            return None
        return change


def _with_margin(estimated_tokens: int) -> int:
    return round(estimated_tokens * 1.1) + _MARGIN_TOKENS


def _fit_output(context_window: int, prompt_tokens: int) -> RequestChange | None:
    """Return the change that limits the response to the tokens that the prompt leaves.

    Returns None if the context window is unknown (0) or leaves too few.
    """
    room = context_window - prompt_tokens
    if room < _MIN_RESPONSE_TOKENS:
        return None
    return RequestChange("fit_output_to_context", "max_tokens", room, is_lasting=False)


def _describe_change(change: RequestChange) -> JsonObject:
    description: JsonObject = {"change": change.change, "field": change.field}
    if isinstance(change.value, tuple):
        description["value"] = [*change.value]
    elif change.value is not None:
        description["value"] = change.value
    if change.conditions:
        description["when"] = dict(change.conditions)
    return description
