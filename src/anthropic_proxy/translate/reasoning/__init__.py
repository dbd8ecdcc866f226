"""Conversion between the reasoning of upstreams and thinking blocks with signatures."""
