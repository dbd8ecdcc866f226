"""The Anthropic API on the wire: requests, content, tools, events."""
