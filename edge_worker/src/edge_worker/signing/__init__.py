"""Signed work at the edge: which keys this worker trusts, and which jobs it runs because of that.

May import: `relay`, `settings`, `files`, `log`, `edge_schemas` and `edge_service.signing`.
Never here: NATS, Airflow; what happens to a job that was accepted.
"""
