"""Which submitted job may have a message now, and which of those is next.

May import: `edge_relay.upkeep.submitted_job`, `edge_upkeep.order`.
Never here: I/O, an event loop.
"""
