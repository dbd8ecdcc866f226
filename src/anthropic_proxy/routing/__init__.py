"""Which upstream and model serve a request."""
