"""Measures the structure of the code, without importing it: sizes, imports, typing, the call path of a job.

`make structure` prints one table for each measure, `make structure ARGS=--check` also checks the bounds.
"""
