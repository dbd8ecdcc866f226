"""Shorten values of requests that error messages quote, because they may be several megabytes."""

_MAX_CHARACTERS = 200


def shorten(text: str, limit: int = _MAX_CHARACTERS) -> str:
    """Return `text`, or its first `limit` characters and its length if it is longer."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text)} characters)"
