"""Why a task waits: what Airflow's database shows for a keeper to answer, and a line in the task's log.

May import: `airflow`, `settings`, the keeper's `cluster_view` and `dispatch`, `edge_schemas`, `edge_broker`.
Never here: a change of Airflow's database or of a job.
"""
