"""Published DAG bundles on their way to workers: who may fetch them, and what of them is in memory.

May import: `jobs`, `stores`, `limits`, `identity`, `edge_broker` and `edge_schemas`.
Never here: HTTP, what a worker does with the code.
"""
