"""Process a request from end to end: routing, failover, both backends, streams, token counting."""
