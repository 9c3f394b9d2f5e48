"""`airflow edge-relay policy …`: sets policies and shows what jobs used. Uses the keeper's NATS user.

May import: `settings`, `output`, `edge_broker`, `edge_schemas`, the standard library.
Never here: whether a call is allowed; keepers decide that.
"""
