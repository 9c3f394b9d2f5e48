"""Everything that speaks NATS JetStream: connection, buckets, records, layout, rights, and checks of a broker.

May import: `edge_service`, `edge_schemas`, nats-py, orjson and structlog. The only place that imports `nats`.
Never here: HTTP servers, Airflow, or anything a worker needs. Installed with the extra `edge-relay-schemas[broker]`.
"""
