"""Shorten values of callers that error messages quote: a value may have megabytes."""

_MAX_CHARACTERS = 200


def shorten(text: str, limit: int = _MAX_CHARACTERS) -> str:
    """Return `text`, or of a text of more than `limit` characters the beginning and the length."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
