"""`anthropic-proxy demo`: the proxy in front of a small real model on this machine, without a
key.
"""
