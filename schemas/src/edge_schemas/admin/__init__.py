"""The operators' API: who may do what, desired state, actions, rows of lists, policies, and why a job waits.

May import: `wire`, `life` and `policies`, pydantic and the standard library.
Never here: I/O, a clock, what only one replica knows.
"""
