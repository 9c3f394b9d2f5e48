"""One connection to NATS that survives what nats-py does not: reconnects, requests, subscriptions, typed errors.

May import: `edge_service`, `edge_schemas` and nats-py.
Never here: names of our streams, buckets and subjects.
"""
