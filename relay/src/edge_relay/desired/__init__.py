"""Desired state: what operators have set for workers, sites and queues, and the settings of a worker that follow.

May import: `edge_broker`, `edge_service` and `edge_schemas`.
Never here: who may change it, requests, polls.
"""
