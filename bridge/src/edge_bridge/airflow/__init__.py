"""Airflow's vocabulary in ours: workloads to jobs, outcomes to events, task instances and queues in its database.

May import: Airflow, `settings`, `tracing` and `edge_schemas`.
Never here: NATS, HTTP.
"""
