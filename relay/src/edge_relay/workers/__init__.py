"""Enrolment and administration of workers: tokens, names, revocation, conflicts, the list for operators.

May import: `metrics`, `stores`, `identity`, `gate`, `shielded`, `edge_broker` and `edge_schemas`.
Never here: requests, responses, the application object; jobs.
"""
