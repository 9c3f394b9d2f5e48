"""Enrolment and administration of workers: tokens, names, the command that enrols a machine.

May import: `metrics`, `identity`, `gate`, `shielded`, `edge_broker`, `edge_service` and `edge_schemas`.
Never here: requests, responses, the application object; jobs.
"""
