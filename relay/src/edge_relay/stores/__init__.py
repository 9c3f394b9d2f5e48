"""What the relay stores in NATS: worker entries, logs by offset, the holders of jobs.

May import: `shielded`, `limits`, `edge_broker` and `edge_schemas`.
Never here: HTTP, decisions about who gets a job.
"""
