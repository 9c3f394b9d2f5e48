"""What the runtime's interpreter executes: the task host and the supervisor of one job. It has Airflow, the agent not.

May import: the standard library, httpx, typing_extensions, Airflow.
Never here: another room; `task_host_main.py` makes only this folder importable. The agent imports only `job_files`,
`log_file` and `lease` from here, the files that both sides read or write, and `signals`.
"""
