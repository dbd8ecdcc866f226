"""Shorten the values that error messages quote from requests: a value may have megabytes."""

_MAX_CHARACTERS = 200


def shorten(text: str, limit: int = _MAX_CHARACTERS) -> str:
    """Return `text`; of a text with more than `limit` characters, its beginning and length."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text)} characters)"
