"""What operators change: actions on workers, sites and queues, on one or on thousands. Each change is audited.

May import: `desired`, `identity`, `metrics`, `stores`, `shielded`, `edge_broker` and `edge_schemas`.
Never here: requests, what lists show.
"""
