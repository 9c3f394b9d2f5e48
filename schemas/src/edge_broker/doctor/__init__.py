"""Checks of a NATS server, its layout and a user's rights, for the doctors of relay and bridge.

May import: the rest of the package, `edge_service` and `edge_schemas`.
Never here: a change to the broker; what a probe sends has no effect.
"""
