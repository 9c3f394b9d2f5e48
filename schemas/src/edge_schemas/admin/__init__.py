"""The operators' API: who may do what, desired state, actions, rows of lists, and why a job waits.

May import: `wire` and `life`, pydantic and the standard library.
Never here: I/O, a clock, what only one replica knows.
"""
