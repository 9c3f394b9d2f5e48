"""Pulls: what this replica requests from the consumers of queues, and which parked poll gets what arrives.

May import: `lifecycle`, `metrics`, `edge_broker` and `edge_schemas`.
Never here: workers' records and entries, answers to polls, HTTP.
"""
