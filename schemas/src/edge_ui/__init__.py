"""The dashboard: its files under `static`, what each of its addresses answers, and what a browser may do with it.

May import: the standard library.
Never here: an HTTP framework, NATS, what the page shows: it reads everything from `/v1/admin`.
"""
