"""Translates between Airflow and this project: workloads to jobs, outcomes to events, task instances and queues.

May import: Airflow, `settings`, `tracing` and `edge_schemas`.
Never here: NATS, HTTP.
"""
