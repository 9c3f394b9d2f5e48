"""Handlers of `/v1/admin`, on the operators' listener: what operators see, and what they do with jobs.

May import: `http`, the rooms below it, `edge_schemas` and aiohttp.web.
Never here: NATS, the application object, decisions.
"""
