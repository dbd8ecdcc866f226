"""Callers, their API keys, and rate limits."""
