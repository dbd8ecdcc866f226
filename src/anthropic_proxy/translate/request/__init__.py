"""Translation of Messages requests to Chat Completions requests."""
