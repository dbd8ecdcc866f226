"""Wire formats of both APIs: messages, JSON and server-sent events.

The package does not import other packages of the proxy.
"""
