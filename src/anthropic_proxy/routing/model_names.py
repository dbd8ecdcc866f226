"""Forms of a model's name that clients use: suffixes for the context size, and Claude ids.

Claude's clients hide models of other vendors in their pickers. A Claude id is a name that they
show: `claude-proxy-`, and the model's name in hexadecimal. Hexadecimal digits form none of the
vendors' names that Claude Desktop rejects, as in `claude-gpt-5`.

Sources: Claude Code 2.1.330 keeps ids that contain `claude` or `anthropic`. Claude Desktop 1.46388
also rejects ids that contain a vendor's name (Eigenwise/eigenwise-toolshed#32).
"""

import re

# Claude Code appends `[1m]` to select a context of one million tokens. It removes the suffix before
# it sends a request, but the requests of its permission checks and other clients keep it, in any
# case and sometimes twice (Wei-Shaw/sub2api#4505).
_CONTEXT_SUFFIX = re.compile(r"\[[0-9]{1,5}[km]\]", re.IGNORECASE)

_CLAUDE_ID_PREFIX = "claude-proxy-"
_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+")

_CLAUDE_NAMES = ("claude", "anthropic")


def strip_context_suffix(model: str) -> str:
    """Return the name without the suffixes at its end, such as `[1m]`."""
    end = len(model)
    while True:
        start = model.rfind("[", 0, end)
        if start <= 0 or not _CONTEXT_SUFFIX.fullmatch(model, start, end):
            return model[:end]
        end = start


def to_claude_id(model: str) -> str:
    """Return a name that the pickers of Claude's clients show. `decode_claude_id` reverses it."""
    if any(name in model.lower() for name in _CLAUDE_NAMES):
        return model
    # Names in JSON may contain lone surrogates.
    return _CLAUDE_ID_PREFIX + model.encode("utf-8", "surrogatepass").hex()


def decode_claude_id(model: str) -> str:
    """Return the name from which `to_claude_id` made a name; other names are returned unchanged.

    A suffix for the context size is kept.
    """
    if not model.startswith(_CLAUDE_ID_PREFIX):
        return model
    base = strip_context_suffix(model)
    digits = base.removeprefix(_CLAUDE_ID_PREFIX)
    if not _HEXADECIMAL.fullmatch(digits):
        return model
    try:
        name = bytes.fromhex(digits).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return model
    if to_claude_id(name) != base:
        return model
    return name + model[len(base) :]
