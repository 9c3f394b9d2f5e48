"""The comparison of what should be with what is: dispatches, records and messages; finds what is missing, repairs it.

May import: the rest of the executor (`publisher`, `reports`, `metrics`), `airflow`, `edge_broker` and `edge_schemas`.
Never here: decisions on a cached record alone; whatever is changed is read from the leader first.
"""
