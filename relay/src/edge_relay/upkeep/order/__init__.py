"""Which submitted job may have a message now, and which of those is next.

May import: `submitted_job` and `edge_upkeep`.
Never here: I/O, an event loop.
"""
