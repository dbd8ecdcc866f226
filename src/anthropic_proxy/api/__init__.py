"""The HTTP API: routes, limits and error responses. The only package that imports Quart."""
