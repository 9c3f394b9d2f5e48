"""Parked polls and pulls: which poll gets which job, and which directives its answer holds.

May import: `pulls`, `stores`, `identity`, `desired`, `gate`, `lifecycle`, `metrics`, `limits`, `edge_broker` and
`edge_schemas`.
Never here: the application object, routes, HTTP statuses.
"""
