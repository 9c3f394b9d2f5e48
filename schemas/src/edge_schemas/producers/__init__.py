"""What producers send and receive: submissions, the status of their jobs, queries.

May import: `life`, `wire`, pydantic and the standard library.
Never here: I/O, knowledge of NATS or HTTP servers.
"""
