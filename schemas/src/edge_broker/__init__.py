"""Everything that speaks NATS JetStream: connection, protocol, buckets, records, layout, rights, checks.

May import: `edge_service`, `edge_schemas`, nats-py, orjson and structlog. The only place that imports `nats`.
Never here: HTTP servers, Airflow, or anything a worker needs. Installed with the extra `edge-relay-schemas[broker]`.
"""
