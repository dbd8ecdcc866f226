"""Wire format of the Anthropic API: requests, content, tools and events."""
