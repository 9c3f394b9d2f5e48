"""The gate: the HTTP server that checks, forwards and records the Execution API calls of edge tasks.

May import: the parts of the keeper below it (`dispatch`, `tokens`, `metrics`, `policy`, `why`), `signing`,
`edge_broker`, `edge_schemas`, `edge_service`, Airflow, aiohttp and prometheus_client.
Never here: loops over jobs; each call is handled separately.
"""
