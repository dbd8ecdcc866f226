"""`anthropic-proxy demo`: the proxy in front of a real, tiny model, on this machine, without any key."""
