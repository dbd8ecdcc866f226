"""Convert the input of a custom tool, which is a text, to the arguments of an offered tool.

The proxy offers only function tools, but OpenAI's models call some of them as custom tools.
"""

from anthropic_proxy.translate.tool_calls.json_repair import INVALID_KEY
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools
from anthropic_proxy.wire.json_codec import dumps, loads_object, repair_surrogates


def to_arguments(custom_input: str, name: str, tools: OfferedTools, *, truncated: bool) -> str:
    """Return the JSON of the arguments.

    The input may be that JSON. Another text is the value of the tool's only string. For a tool with
    several strings, or with other required arguments, the text becomes invalid arguments.

    truncated: the input is only a beginning, so the JSON is not closed.
    """
    custom_input = repair_surrogates(custom_input)
    schema = tools.get_schema(tools.find(name) or "")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    members = properties if isinstance(properties, dict) else {}
    arguments = loads_object(custom_input.encode())
    if arguments is not None and arguments.keys() <= members.keys():
        return custom_input
    key = INVALID_KEY
    texts = [member for member in members if "string" in tools.get_types(members[member])]
    if len(texts) == 1 and _requires_only(schema, texts[0]):
        key = texts[0]
    document = dumps({key: custom_input}).decode()
    return document.removesuffix('"}') if truncated else document


def _requires_only(schema: dict[str, object], member: str) -> bool:
    required = schema.get("required")
    return not isinstance(required, list) or all(name == member for name in required)
