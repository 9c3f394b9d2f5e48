"""What the services share that is neither wire nor broker: logging, tracing, threads, probes, findings, files, bodies.

May import: `edge_schemas`, typing_extensions and the standard library; structlog in `logging` and `tracing` only,
opentelemetry in `tracing` only.
Never here: NATS, Airflow, an HTTP framework. A worker uses `body_progress`, `closed_pipe`,
`findings` and `text_files` only.
"""
