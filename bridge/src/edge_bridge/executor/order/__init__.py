"""What the order of waiting jobs needs from the installation, and what it shows of them.

May import: `edge_broker`, `edge_schemas`, `edge_upkeep.order` and prometheus_client.
Never here: the order itself, publishing, records, Airflow.
"""
