"""Client for one upstream: HTTP client, transport, keys, circuit breaker, concurrency limit, retry."""
