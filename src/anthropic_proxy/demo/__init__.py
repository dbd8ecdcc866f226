"""`anthropic-proxy demo`: the proxy in front of a small model on this machine."""
