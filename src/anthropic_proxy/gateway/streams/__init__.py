"""Streams from an upstream to a client: translated, passed through, deferred."""
