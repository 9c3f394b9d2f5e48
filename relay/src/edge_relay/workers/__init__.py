"""Enrolment and administration of workers: tokens, names, the list for operators.

May import: `metrics`, `stores`, `identity`, `desired`, `gate`, `shielded`, `edge_broker` and `edge_schemas`.
Never here: requests, responses, the application object; jobs.
"""
