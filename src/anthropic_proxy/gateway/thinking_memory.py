"""Remember the refusals of thinking by an upstream with the Messages API, and adapt requests.

Changes that a model requires expire after an hour, as those of `gateway.model_memory`. A refusal of
single blocks concerns one conversation: the last of its blocks marks it, because the next requests
of the conversation contain that block too, and new blocks of the upstream come after it.
"""

from cachetools import LRUCache

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import MAX_SEARCHED
from anthropic_proxy.translate.passthrough import edit_conversation
from anthropic_proxy.translate.reasoning.thinking_history import (
    UNCHANGED,
    ThinkingChange,
    ThinkingPolicy,
    find_last_thinking,
    find_thinking_changes,
)
from anthropic_proxy.translate.upstream_errors import UpstreamFailureError
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_TTL_SECONDS = 3600.0
# For each upstream.
_MAX_MODELS = 256
# For each model.
_MAX_CONVERSATIONS = 512
_MAX_CHANGES_PER_REQUEST = 4


class _ModelThinking:
    """The memory of one model. Gateways offer models of several providers."""

    def __init__(self) -> None:
        # The times of the lasting changes, by name.
        self.changes: dict[str, float] = {}
        # The digests of the last refused blocks of conversations.
        self.refused: LRUCache[bytes, None] = LRUCache(_MAX_CONVERSATIONS)


class ThinkingMemory:
    """The memory of one upstream. The caller passes the time, in seconds of any clock."""

    def __init__(self) -> None:
        self._models: LRUCache[str, _ModelThinking] = LRUCache(_MAX_MODELS)

    def get_policy(self, model: str, now: float) -> ThinkingPolicy:
        """Return the changes that requests for a model need."""
        memory = self._models.get(model)
        if memory is None:
            return UNCHANGED
        changes = [name for name, since in memory.changes.items() if now - since < _TTL_SECONDS]
        if not changes and not memory.refused:
            return UNCHANGED
        return ThinkingPolicy(frozenset(changes), memory.refused)

    def record_change(self, model: str, change: ThinkingChange, now: float) -> None:
        """Record a change that made the model accept a request."""
        self._get_memory(model).changes[change.name] = now

    def record_refused(self, model: str, digest: bytes) -> None:
        """Record the last thinking block of a conversation whose thinking was refused."""
        self._get_memory(model).refused[digest] = None

    def describe(self, model: str) -> JsonObject:
        """Return the changes that the model requires as JSON."""
        memory = self._models.get(model)
        if memory is None or not memory.changes:
            return {}
        return {"changes": [{"change": name} for name in memory.changes]}

    def _get_memory(self, model: str) -> _ModelThinking:
        return self._models.setdefault(model, _ModelThinking())


class ThinkingAdapter:
    """Adapts one request to the refusals of its thinking."""

    def __init__(self, memory: ThinkingMemory, model: str, request: JsonObject, now: float) -> None:
        """Begin with the changes that the model is known to require.

        request: the client's request with the configured fields.
        """
        self.policy = memory.get_policy(model, now)
        self._memory = memory
        self._model = model
        self._request = request
        self._changes: list[ThinkingChange] = []

    def adapt_to(self, error: ApiError) -> ThinkingChange | None:
        """Change `policy` as an error requires, and return the change.

        Returns None if the error does not refuse thinking, or no change has an effect.
        """
        if len(self._changes) >= _MAX_CHANGES_PER_REQUEST:
            return None
        for change in find_thinking_changes(*_parse_refusal(error)):
            policy = self._extend_policy(change)
            if policy is not None and self._differs(policy):
                self.policy = policy
                self._changes.append(change)
                return change
        return None

    def record_changes(self, now: float) -> None:
        """Record the changes.

        Call this when the upstream has accepted the request, or when no more may be sent.
        """
        for change in self._changes:
            if change.is_lasting:
                self._memory.record_change(self._model, change, now)
            elif digest := find_last_thinking(self._request["messages"]):
                self._memory.record_refused(self._model, digest)

    def _differs(self, policy: ThinkingPolicy) -> bool:
        edited = edit_conversation(self._request, policy)
        return edited != edit_conversation(self._request, self.policy)

    def _extend_policy(self, change: ThinkingChange) -> ThinkingPolicy | None:
        """Return the policy with one more change; None if it has the change."""
        if change.is_lasting:
            if change.name in self.policy.changes:
                return None
            changes = frozenset([*self.policy.changes, change.name])
            return ThinkingPolicy(changes, self.policy.refused)
        digest = find_last_thinking(self._request["messages"])
        if digest is None or digest in self.policy.refused:
            return None
        return ThinkingPolicy(self.policy.changes, frozenset([digest]))


def _parse_refusal(error: ApiError) -> tuple[int, str]:
    """Return the status of an error and its texts, with the texts of nested errors."""
    if isinstance(error, UpstreamFailureError):
        status, text = error.failure.status, error.failure.text
        raw = dumps(error.failure.error)
    else:
        status, text = error.status, error.message
        raw = error.to_json("")
    return status, f"{text} {raw[:MAX_SEARCHED].decode(errors='replace')}"
