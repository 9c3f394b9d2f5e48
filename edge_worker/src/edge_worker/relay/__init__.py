"""How the worker reaches the relay: one HTTP client, proxies, TLS, retries, the state of the link.

May import: `settings`, `log`, `edge_schemas`, `edge_service.body_progress`, `edge_service.text_files`, pydantic,
aiohttp and its yarl and aiohappyeyeballs.
Never here: the purpose of a call; no other room.
"""
