"""Parked polls and pulls: which poll gets which job, and what a poll's answer directs the worker to do.

May import: `stores`, `identity`, `metrics`, `edge_broker` and `edge_schemas`.
Never here: the application object, routes, HTTP statuses.
"""
