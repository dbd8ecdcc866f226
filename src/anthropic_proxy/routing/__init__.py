"""Select the upstream and the model that serve a request."""
