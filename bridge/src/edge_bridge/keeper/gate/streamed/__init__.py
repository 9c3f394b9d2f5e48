"""Large answers of the api-server that the gate passes on while they arrive: read, signed at the end, sent.

May import: `edge_schemas`, `edge_service`, aiohttp and structlog.
Never here: what a call means, and which answer is passed on.
"""
