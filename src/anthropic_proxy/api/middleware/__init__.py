"""ASGI middleware: request observation, requests in flight, CORS."""
