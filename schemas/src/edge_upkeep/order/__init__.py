"""Which of the waiting jobs of a queue gets its message next, and how many may have one.

May import: `edge_broker`, `edge_schemas` and structlog.
Never here: publishing, records, Airflow itself.
"""
