"""Looks after submitted jobs: order and messages, delays, expiry, groups, give-ups, and the move of ended records.

May import: the relay's rooms below, `edge_upkeep`, `edge_broker`, `edge_service`, `edge_schemas`,
prometheus_client and structlog.
Never here: HTTP, grants, jobs of Airflow, which the executor and the keeper look after. Without submitted jobs nothing
runs here.
"""
