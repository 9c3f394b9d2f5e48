"""Why a job is still queued: gathers the facts of this moment, and asks a keeper where Airflow decides.

May import: `fleet`, `dispatch`, `gate`, `identity`, `submissions`, `edge_broker` and `edge_schemas`.
Never here: how facts become causes (`edge_schemas.why`), requests, HTTP.
"""
