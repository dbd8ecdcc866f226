"""Differences between upstream servers: a record type, the table of profiles, base URLs."""
