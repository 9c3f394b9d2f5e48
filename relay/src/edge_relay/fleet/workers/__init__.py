"""Workers and sites as operators see them.

May import: `fleet.pages` and `fleet.cached`, and what `fleet` may.
Never here: I/O.
"""
