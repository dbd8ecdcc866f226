"""Code without a fence, in which calls are examples: inline code, indented lines and tags."""

from anthropic_proxy.translate.tool_calls.markers import Markers

# Tags of HTML around code, and tags around examples in prompts, which models imitate.
_TAGS = ("pre", "code", "samp", "xmp", "example", "examples", "sample")

_EMPTY_LINE = "\n\n"
INLINE_END = Markers(("`", _EMPTY_LINE))
LINE_END = Markers(("\n",))

_NAMES = (*_TAGS, *(tag.upper() for tag in _TAGS))
# Attributes may follow the name.
_NAME_BY_OPENER = {f"<{name}{end}": name for name in _NAMES for end in "> "}
EXAMPLE_OPENERS = _NAME_BY_OPENER.keys()
_BLOCK_ENDS = {name: Markers((f"</{name}>",)) for name in _NAMES}
_LINE_ENDS = {name: Markers((f"</{name}>", _EMPTY_LINE)) for name in _NAMES}


def find_example_end(opener: str, *, starts_line: bool) -> Markers | None:
    """Return the end of the example after an opener, or None for another opener.

    An empty line ends an example that starts within a line: the tag may be a part of prose.
    """
    name = _NAME_BY_OPENER.get(opener)
    if name is None:
        return None
    return (_BLOCK_ENDS if starts_line else _LINE_ENDS)[name]
