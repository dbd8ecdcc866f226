"""ASGI middleware: observation, requests in flight, CORS."""
