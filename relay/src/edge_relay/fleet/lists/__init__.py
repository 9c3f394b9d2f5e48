"""What all lists share: pages, and values that are computed once for all callers.

May import: `metrics`, `edge_broker` and `edge_schemas`.
Never here: what a list shows.
"""
