"""Handlers of the operators' listener: sign-in, tokens, the audit, what operators see and what they do.

They parse and answer only. Each of them names the least role that it needs.

May import: `http`, the rooms below it, `edge_schemas` and aiohttp.web.
Never here: NATS, decisions; these belong in the rooms below.
"""
