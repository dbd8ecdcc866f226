"""Benchmarks (`make bench`) and the soak test (`make soak`)."""
