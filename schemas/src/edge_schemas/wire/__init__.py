"""The wire between worker and relay: models, ids, errors and routes.

May import: pydantic and the standard library.
Never here: I/O, a clock, what a job's record is.
"""
