"""The state in NATS that parked polls need: watched for all polls together, and read only where it matters.

May import: `stores`, `metrics`, `edge_broker` and `edge_schemas`; of `dispatch` only `polls`.
Never here: pulls, grants, answers.
"""
