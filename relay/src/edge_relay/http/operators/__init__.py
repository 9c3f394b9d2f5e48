"""Handlers of the operators' listener: the page, sign-in, tokens, the audit, what operators see and do.

They parse and answer only. Each call under `/v1/admin` besides the sign-in begins with the least role that it needs.

May import: `http`, the rooms below it, `edge_schemas`, `edge_ui`, errors of `edge_broker` and aiohttp.web.
Never here: NATS, decisions; these belong in the rooms below.
"""
