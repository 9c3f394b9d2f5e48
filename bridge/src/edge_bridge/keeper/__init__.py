"""The keeper: the only process that calls Airflow's Execution API for edge tasks, and watches them for Airflow.

May import: `airflow`, `bundles`, `signing`, `settings`, `tracing`, `provider_info`, `edge_broker`, `edge_service`,
`edge_schemas`, `edge_upkeep`, Airflow, aiohttp and prometheus_client.
Never here: the executor, logs; writes to Airflow's database.
"""
