"""Workers and sites as operators see them.

May import: `fleet.lists`, `desired`, `identity`, `metrics`, `edge_broker` and `edge_schemas`.
Never here: changes of what operators set.
"""
