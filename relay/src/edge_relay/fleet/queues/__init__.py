"""Queues as operators see them: their consumers, their jobs' records, their workers, and how many jobs come and go.

May import: `fleet.lists`, `fleet.workers`, `desired`, `dispatch`, `edge_broker` and `edge_schemas`.
Never here: JetStream calls that change anything.
"""
