"""The dashboard: the files of the page under `static`, and how a browser must treat them.

May import: the standard library.
Never here: HTTP, NATS, what the page shows: it reads everything from `/v1/admin`.
"""
