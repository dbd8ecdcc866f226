"""What is known of one upstream model, from its refusals and answers; and a request on its way to it.

Changes that made it take a request are made to the next ones from the start. They are forgotten after an hour, so that an
upstream that has changed is found out: it costs one refused request. The clock is the caller's.
"""

from dataclasses import dataclass, field

from anthropic_proxy.translate.adaptation.changes import Adjustment
from anthropic_proxy.translate.adaptation.conditions import Condition
from anthropic_proxy.translate.adaptation.rules import adjustment_for
from anthropic_proxy.translate.apis import APIS, Api
from anthropic_proxy.translate.responses_api.refusals import wants_responses
from anthropic_proxy.translate.upstream_errors import Failure, context_sizes
from anthropic_proxy.wire.json_codec import JsonObject

# Seconds.
_KEPT = 3600.0
_MOST_KEPT = 32
# Refused fields come to light one at a time; a request of the real clients has at most this many that could be refused.
_MOST_CHANGES = 8
# Tokens; an estimate of the prompt may be this much too low.
_MARGIN = 256
_LEAST_ANSWER = 1024


@dataclass(frozen=True)
class _Known:
    change: Adjustment
    since: float


@dataclass
class Learned:
    """What is known of one upstream model.

    api: by which API it is to be asked, where its upstream has said so. window: tokens of prompt and answer together, 0
    while that is not known. opens_thinking: whether its answers begin
    within a block of reasoning that its chat template has opened; apart for requests that forbid thinking (True), as
    templates open none for these.
    """

    api: str | None = None
    window: int = 0
    opens_thinking: dict[bool, bool] = field(default_factory=dict)
    # The one learned last is made last. Of changes that differ in their value alone, that one counts.
    _changes: dict[tuple[str, str, tuple[Condition, ...]], _Known] = field(default_factory=dict)
    _window_since: float = 0.0
    _api_since: float = 0.0

    def adjusted(self, body: JsonObject, prompt: int, now: float) -> JsonObject:
        """The request as the model takes it; `prompt` is the estimate of its tokens, `now` in seconds."""
        self._forget(now)
        for known in self._changes.values():
            body = known.change.apply(body)
        room = self.window - round(prompt * 1.1) - _MARGIN
        return Adjustment("room", "max_tokens", room).apply(body) if room >= _LEAST_ANSWER else body

    def learn(self, changes: list[Adjustment], now: float) -> None:
        """Changes that made the model take a request, in their order."""
        for change in changes:
            key = (change.change, change.field, change.when)
            self._changes.pop(key, None)
            self._changes[key] = _Known(change, now)
        while len(self._changes) > _MOST_KEPT:
            del self._changes[next(iter(self._changes))]

    def asked_by(self, api: str, now: float) -> None:
        """The API that it is to be asked by from now on."""
        self.api, self._api_since = api, now

    def has_refused(self, failure: Failure, now: float) -> None:
        """A refusal, which may tell the window."""
        window = context_sizes(failure).limit
        if window:
            self.window, self._window_since = window, now

    def has_read(self, prompt: int) -> None:
        """An answered prompt, in tokens as the upstream counted: one that fills the window shows that it has grown."""
        if prompt >= self.window:
            self.window = 0

    def described(self) -> JsonObject:
        """All of it as JSON: what is changed of which requests, the window in tokens, and what opens with reasoning."""
        return {
            "changes": [_described(known.change) for known in self._changes.values()],
            "api": self.api,
            "context_window": self.window or None,
            "opens_thinking": any(self.opens_thinking.values()),
        }

    def _forget(self, now: float) -> None:
        self._changes = {
            key: known for key, known in self._changes.items() if now - known.since < _KEPT
        }
        if now - self._window_since >= _KEPT:
            self.window = 0
        if now - self._api_since >= _KEPT:
            self.api = None


class Attempt:
    """A request to a model, changed where it is refused, and sent again by the caller. `body` is what to send."""

    def __init__(self, known: Learned, api: Api, body: JsonObject, prompt: int, now: float) -> None:
        """body: of Chat Completions. prompt: the estimate of its tokens. now: in seconds, as with all that follows."""
        self._api = api
        self.body = known.adjusted(body, prompt, now)
        self._known = known
        self._made: list[Adjustment] = []
        self._sent = [self.body]

    def refused(self, failure: Failure, now: float) -> Adjustment | None:
        """The change that the refusal asks for, made to `body`; None when there is nothing more to try."""
        self._known.has_refused(failure, now)
        if (
            self._known.api is None
            and self._api is APIS["chat_completions"]
            and wants_responses(failure)
        ):
            return None
        change = self._change(failure) if len(self._made) < _MOST_CHANGES else None
        if change is None:
            return None
        changed = change.apply(self.body)
        if changed in self._sent:
            # Two refusals contradict each other: the upstream has refused this request already.
            return None
        self._made.append(change)
        self._sent.append(changed)
        self.body = changed
        return change

    def _change(self, failure: Failure) -> Adjustment | None:
        return self._api.adjustment(failure, self.body) or adjustment_for(
            self._api.as_chat_failure(failure), self.body
        )

    def accepted(self, now: float) -> None:
        """The model answers: what was changed is remembered, as far as it is about the model."""
        self._known.learn([change for change in self._made if change.lasts], now)


def _described(change: Adjustment) -> JsonObject:
    described: JsonObject = {"change": change.change, "field": change.field}
    if change.value is not None:
        described["value"] = [*change.value] if isinstance(change.value, tuple) else change.value
    return described | ({"when": dict(change.when)} if change.when else {})
