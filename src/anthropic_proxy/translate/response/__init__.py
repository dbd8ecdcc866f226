"""Translation of Chat Completions responses to Messages responses."""
