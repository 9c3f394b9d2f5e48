"""What a relay tells Prometheus: what this replica counts, and what it sees of queues, streams and workers.

Labels come from the server, never from a client, and none holds a job's id. Figures of what all replicas share are
exported by each of them, with equal values.
"""
