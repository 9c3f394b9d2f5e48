"""Workers and sites as operators see them.

May import: `fleet.lists`, and what `fleet` may.
Never here: I/O.
"""
