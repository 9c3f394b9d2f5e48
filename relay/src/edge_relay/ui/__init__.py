"""The dashboard: the files of the page under `static`, how a browser must treat them, and addresses that it shows.

May import: the standard library, and pydantic for settings.
Never here: HTTP, NATS, what the page shows: it reads everything from `/v1/admin`.
"""
