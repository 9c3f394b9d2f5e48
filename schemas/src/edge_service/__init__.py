"""What the services share that is neither wire nor broker: logging, tracing, threads, probes, findings, text files.

May import: `edge_schemas`, typing_extensions and the standard library; structlog in `logging` and `tracing` only,
opentelemetry in `tracing` only.
Never here: NATS, Airflow, an HTTP framework. A worker uses `findings`, `text_files` and `closed_pipe` only.
"""
