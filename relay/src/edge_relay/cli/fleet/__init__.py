"""Commands about the fleet: what they read through `/v1/admin`, and what they change.

May import: `cli`'s client, output and screen, `edge_schemas`.
Never here: NATS, a decision that the relay makes.
"""
