"""Speak the Anthropic Messages API to clients and OpenAI Chat Completions to an upstream."""

__version__ = "0.1.0"
