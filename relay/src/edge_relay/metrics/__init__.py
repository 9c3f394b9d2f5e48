"""The relay's metrics: what this replica counts, and what it reads of queues, streams and workers, like all replicas.

May import: `identity`, `desired`, `limits`, `edge_broker`, `edge_schemas`, prometheus_client and cryptography.
Never here: labels that a client chose or that hold a job's id; handlers.
"""
