"""What keepers do about DAG code: one of them publishes the bundles that the settings name, and removes old versions.

May import: `dispatch` of the keeper, `bundles`, `airflow`, `settings`, `edge_broker`, `edge_service`, `edge_schemas`,
Airflow and prometheus_client.
Never here: how a version is hashed, stored or removed; anything that the gate waits for.
"""
