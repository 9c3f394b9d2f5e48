"""The comparison of what should be with what is: dispatches, records and messages; finds what is missing, repairs it.

May import: the rest of the executor (`publisher`, `reports`, `metrics`, `concurrency`), `airflow`, `signing`,
`edge_broker`, `edge_schemas`, `edge_service`, `edge_upkeep` and Airflow.
Never here: decisions on a cached record alone; whatever is changed is read from the leader first.
"""
