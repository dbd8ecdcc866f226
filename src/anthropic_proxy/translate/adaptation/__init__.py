"""Adaptation of requests that an upstream refused: rules for refusals, and request changes."""
