"""What producers do: submit jobs, read their status and log, list and cancel them.

May import: `dispatch`, `metrics`, `identity`, `stores`, `desired`, `lifecycle`, `shielded`, `limits`, `edge_broker`
and `edge_schemas`.
Never here: requests and responses; the messages of submitted jobs, and what happens to them without their producer.
"""
