"""Hints for keys of upstreams that are valid, but probably not what the operator meant."""

import re

_SCHEME = re.compile(r"(?:authorization:\s*)?bearer\s", re.IGNORECASE)
_QUOTED = re.compile(r"""["'\u2018\u2019\u201c\u201d]|^`|`$""")


def key_hint(key: str) -> str:
    """Return what is probably wrong with a key, without a part of it; empty when nothing is."""
    if _SCHEME.match(key):
        return "the key begins with Bearer: leave that out, the proxy adds it"
    if _QUOTED.search(key):
        return "the key holds quotes: write it without them"
    if re.search(r"\s", key):
        return "the key holds blanks: was it copied whole and alone?"
    return ""
