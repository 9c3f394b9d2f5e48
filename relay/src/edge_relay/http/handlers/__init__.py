"""One module per group of endpoints: parse, call one thing, reply.

May import: the rest of `http` and the rooms below it.
Never here: loops, shared state, NATS.
"""
