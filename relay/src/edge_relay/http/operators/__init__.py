"""Handlers of the operators' listener for sign-in, tokens and the audit. They parse and answer only.

May import: `http`, the rooms below it, `edge_schemas` and aiohttp.web.
Never here: NATS, decisions; these belong in the rooms below.
"""
