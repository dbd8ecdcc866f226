"""Shorten values of callers that error messages quote: a value may have megabytes."""

_MAX_CHARACTERS = 200


def shorten(text: str, limit: int = _MAX_CHARACTERS) -> str:
    """Return a text of at most `most` characters as it is; of a longer one the beginning, and how long it is."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
