"""Signed work: what is signed of a job, and which keys are trusted. Pure: signatures are made and checked elsewhere.

May import: `life`, `wire`, pydantic and the standard library.
Never here: I/O, cryptography.
"""
