"""What is measured, and not tested: `make soak`."""
