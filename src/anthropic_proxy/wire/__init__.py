"""Both APIs on the wire: message shapes, JSON and event framing. Imports no other package of the
proxy.
"""
