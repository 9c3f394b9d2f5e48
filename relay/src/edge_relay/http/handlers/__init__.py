"""Handlers of the workers' listener, and of both: one module for each subject.

Each class is constructed with the parts that it calls and lists its routes. `http.operators` holds the operators'.

May import: `http`, the rooms below it, `edge_schemas`, `edge_service` and aiohttp.web.
Never here: NATS, the application object, decisions.
"""
