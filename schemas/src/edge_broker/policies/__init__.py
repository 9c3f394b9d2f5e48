"""The buckets of policies and of counted accesses.

May import: `bucket`, `connection`, `subjects`, `edge_schemas`, structlog.
Never here: what a policy allows, and how accesses are added: both are in `edge_schemas.policies`.
"""
