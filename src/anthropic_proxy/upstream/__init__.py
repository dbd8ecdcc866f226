"""Client for one upstream: connections, keys, circuit breaker, concurrency limit, retries."""
