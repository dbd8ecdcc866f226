"""Chat Completions to Messages: complete responses and streams."""
