"""Observations of requests, and their sinks: logs, metrics and traces."""
