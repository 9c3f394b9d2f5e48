"""The local gateway: the Unix socket through which task processes make their Execution API calls.

May import: `jobs`, `relay`, `log`, `edge_schemas` and aiohttp.web.
Never here: Airflow; calls are forwarded, held or answered by route and status.
"""
