"""The translation between the two APIs: pure functions and state machines.

Nothing here awaits, sleeps, logs, or reads the clock or random numbers: ids are arguments, and
notes on the translation are part of the result.
"""
