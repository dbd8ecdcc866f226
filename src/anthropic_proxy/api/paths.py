"""Paths of the API."""

# Clients whose base URL ends in /v1 request the second form.
PREFIXES = ("/v1", "/v1/v1")
