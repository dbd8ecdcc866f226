"""Commands of `anthropic-proxy`."""
