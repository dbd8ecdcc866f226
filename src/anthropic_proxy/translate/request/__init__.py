"""Messages requests to Chat Completions requests."""
