"""Tool calls that are assembled from fragments or found in text."""
