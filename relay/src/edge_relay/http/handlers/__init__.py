"""One module of handlers for each subject; each class is constructed with the parts that it calls and lists its routes.

May import: `http`, the rooms below it, `edge_schemas`, `edge_service` and aiohttp.web.
Never here: NATS, the application object, decisions.
"""
