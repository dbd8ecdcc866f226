"""The command line of `anthropic-proxy`."""
