"""Adapt a request that an upstream refused: rules that read the refusal, and changes of the
request.
"""
