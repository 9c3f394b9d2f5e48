"""Need to know: what a call uses, whether the policies allow it, and the counts of what jobs used.

May import: `dispatch`, `edge_broker`, `edge_schemas`, prometheus_client, structlog.
Never here: HTTP, and calls to Airflow.
"""
