"""Chat Completions to Messages: whole responses and streams."""
