"""Signed work at the centre: the executor signs jobs; executor and keeper check what is stored of them.

May import: `settings`, `edge_broker`, `edge_service`, `edge_schemas` and Airflow.
Never here: the private key in a log, an error or NATS.
"""
