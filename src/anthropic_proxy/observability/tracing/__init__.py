"""Spans of requests, and their export with OpenTelemetry."""
