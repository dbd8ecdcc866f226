"""Differences between upstream servers: one record type, one table, base URLs."""
