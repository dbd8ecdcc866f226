"""Estimates of token counts, and their calibration."""
