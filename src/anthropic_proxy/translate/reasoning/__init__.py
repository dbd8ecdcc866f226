"""Reasoning fields of upstreams, thinking blocks and their signatures."""
