"""The translation between the two APIs: pure functions and state machines.

Nothing here awaits, sleeps, logs, asks for the time or for random numbers: ids come in as arguments, and what happened
on the way goes out with the result.
"""
