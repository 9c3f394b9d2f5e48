"""The process that runs one command: the supervisor of a program that a producer submitted. It needs no Airflow.

May import: `task_host.supervision`, `task_host.job_files`, `task_host.lease`, `task_host.log_file` and
`task_host.protocol`.
Never here: the agent, which may end while a command runs.
"""
