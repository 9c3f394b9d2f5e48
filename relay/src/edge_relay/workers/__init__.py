"""Enrolment and administration of workers: tokens, names.

May import: `metrics`, `identity`, `gate`, `shielded`, `edge_broker` and `edge_schemas`.
Never here: requests, responses, the application object; jobs.
"""
