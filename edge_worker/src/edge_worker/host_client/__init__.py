"""The agent's side of what runs jobs: the task host, and the supervisors of commands.

May import: `processes`, `state`, `log`, `command_host.request`, `task_host.job_files` and `edge_schemas`.
Never here: Airflow; that is `task_host`, run by another interpreter.
"""
