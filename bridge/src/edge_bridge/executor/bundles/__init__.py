"""Which version of its DAG bundle a job gets, and the jobs that wait for that version.

May import: `publish_queue`, `edge_schemas`.
Never here: NATS, Airflow's database, what is published and when.
"""
