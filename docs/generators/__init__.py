"""Generators of the pages of docs/ that state what the tables of the source state."""
