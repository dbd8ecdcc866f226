"""Prefill: a final assistant message that the response continues.

Servers differ in how a request must mark this message. Some servers (llama.cpp, recorded) repeat
the message at the beginning of the response; the proxy removes the repetition.
"""

from collections.abc import Callable

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.providers.provider_profile import PrefillMode
from anthropic_proxy.wire.json_codec import JsonObject


def _keep_message(message: JsonObject) -> tuple[JsonObject, JsonObject]:
    return message, {}


def _reject_prefill(_: JsonObject) -> tuple[JsonObject, JsonObject]:
    raise invalid_request(
        "messages: This model does not support assistant message prefill. "
        "The conversation must end with a user message."
    )


def _set_continue_final_message(message: JsonObject) -> tuple[JsonObject, JsonObject]:
    return message, {"continue_final_message": True, "add_generation_prompt": False}


def _set_prefix(message: JsonObject) -> tuple[JsonObject, JsonObject]:
    return message | {"prefix": True}, {}


def _set_partial(message: JsonObject) -> tuple[JsonObject, JsonObject]:
    return message | {"partial": True}, {}


_CONVERTERS: dict[PrefillMode, Callable[[JsonObject], tuple[JsonObject, JsonObject]]] = {
    # llama.cpp and Ollama (recorded), OpenRouter (its guide to assistant prefill) need no mark.
    "continued": _keep_message,
    # OpenAI and Azure start a new response instead. The error text is the Messages API's.
    "refused": _reject_prefill,
    # vLLM and SGLang (their chat API references): without these fields they start a new response
    # (recorded).
    "continue_final_message": _set_continue_final_message,
    # DeepSeek ("chat prefix completion") and Mistral ("prefix").
    "prefix": _set_prefix,
    # Moonshot and Qwen ("partial mode"); Qwen's models accept it only without thinking.
    "partial": _set_partial,
}


def to_prefill_message(
    message: JsonObject, text: str, mode: PrefillMode
) -> tuple[JsonObject, JsonObject]:
    """Return the upstream's form of a final assistant message, and additional request fields.

    `text` is the text of the message. Raises ApiError (400) if the upstream does not support
    prefill, or if the text ends with white space.
    """
    if text != text.rstrip():
        raise invalid_request(
            "messages: final assistant content cannot end with trailing whitespace"
        )
    return _CONVERTERS[mode](message)


class PrefillStripper:
    """Removes the prefill from the beginning of a response that repeats it.

    Text is buffered while it matches the beginning of the prefill. If it then differs or ends, the
    response did not repeat the prefill, and the buffered text is returned.
    """

    def __init__(self, prefill: str) -> None:
        self._prefill = prefill
        self._matched = 0

    def feed(self, piece: str) -> str:
        """Return the text that can be sent now."""
        rest = len(self._prefill) - self._matched
        if not rest:
            return piece
        if self._prefill.startswith(piece[:rest], self._matched):
            self._matched += min(rest, len(piece))
            if self._matched < len(self._prefill):
                return ""
            self._prefill, self._matched = "", 0
            return piece[rest:]
        return self.close() + piece

    def close(self) -> str:
        """Return the buffered text, at the end of the response's text."""
        held_text = self._prefill[: self._matched]
        self._prefill, self._matched = "", 0
        return held_text
