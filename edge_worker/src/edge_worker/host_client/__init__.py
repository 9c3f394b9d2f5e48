"""The agent's side of the task host: starts it, asks it to run a job, reads how the job's process ended.

May import: `processes`, `state`, `task_host.job_files` and `edge_schemas`.
Never here: Airflow; that is `task_host`, run by another interpreter.
"""
