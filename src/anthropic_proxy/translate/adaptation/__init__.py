"""Adapt a request that an upstream refused: rules for refusals, and changes of the request."""
