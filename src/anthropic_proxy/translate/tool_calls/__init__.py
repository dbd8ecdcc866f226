"""Tool calls, assembled from fragments or found in text."""
