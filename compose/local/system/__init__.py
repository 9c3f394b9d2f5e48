"""The parts of the local system (relay, Airflow, forward proxy, edge workers), and the system as one object.

May import: `local.sandbox`, `local.processes`, `edge_schemas.wire.routes`, aiohttp; `proxy_server` also proxy.py.
Must never contain: console output, checks of a run, or anything that only one command or test needs.
"""
