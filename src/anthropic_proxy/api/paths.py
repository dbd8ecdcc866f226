"""Path prefixes of the API."""

# Clients whose base URL ends in /v1 use the second prefix.
PREFIXES = ("/v1", "/v1/v1")
