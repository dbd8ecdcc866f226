"""A small MCP server on standard input and output, with one tool whose name is too long for OpenAI.

Source: modelcontextprotocol.io, specification 2025-06-18 (JSON-RPC 2.0, one message a line).
"""

import json
import sys
from typing import Any

# With Claude Code's prefix `mcp__numbers__` it has 76 characters.
TOOL = "add_two_whole_numbers_and_tell_what_their_sum_is_in_decimal_di"

_SCHEMA = {
    "type": "object",
    "oneOf": [{"required": ["a", "b"]}, {"required": ["numbers"]}],
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "integer"},
        "numbers": {"type": "array", "items": {"$ref": "#/$defs/number"}},
    },
    "$defs": {"number": {"type": "integer"}},
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of a request."""
    match method:
        case "initialize":
            server = {"name": "numbers", "version": "1"}
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": server,
            }
        case "tools/list":
            return {
                "tools": [
                    {"name": TOOL, "description": "Adds whole numbers", "inputSchema": _SCHEMA}
                ]
            }
        case "tools/call":
            given = params["arguments"]
            total = sum(given.get("numbers", ())) + given.get("a", 0) + given.get("b", 0)
            return {"content": [{"type": "text", "text": f"the sum is {total}"}]}
    return {}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            result = answer(message["method"], message.get("params", {}))
            response = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            print(json.dumps(response), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
