"""Actions of operators: each changes one target and returns what was before and after.

May import: `workers`, `jobs`, `desired`, `stores`, `identity`, `edge_broker` and `edge_schemas`.
Never here: requests and responses, roles, the audit; the caller of an action does both.
"""
