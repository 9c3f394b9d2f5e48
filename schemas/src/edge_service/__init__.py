"""What the services share that is neither wire nor broker: logging, tracing, threads, HTTP probes, doctor findings.

May import: `edge_schemas` and the standard library; structlog and orjson in `logging` and `tracing` only.
Never here: NATS, Airflow, an HTTP framework. A worker uses `findings` only.
"""
