"""Translation between the APIs, as pure functions and state machines.

The package does no I/O and uses no clock, random numbers or logger. Ids are arguments, and notes on
the translation are part of the result.
"""
