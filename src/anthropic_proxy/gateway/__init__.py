"""One request end to end: routing, failover, the two backends, streams, token counting."""
