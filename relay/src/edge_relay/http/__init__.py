"""The relay's HTTP surface: handlers, middlewares, reading bodies, identifying callers.

May import: every room below it, `edge_schemas`, `edge_service`, `edge_ui`, errors of `edge_broker` and aiohttp.web; of
`dispatch`, `jobs`, `workers` only what a handler calls.
Never here: decisions about jobs, polls or workers; a handler parses, calls one thing and replies.
"""
