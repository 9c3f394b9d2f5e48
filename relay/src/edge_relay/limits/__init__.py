"""What one client, worker, queue or address may use of a replica: memory, calls, connections, grants, room for logs.

May import: `edge_broker` and `edge_schemas`.
Never here: requests and responses; what a call means.
"""
