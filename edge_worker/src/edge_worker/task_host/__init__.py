"""The part of the worker that the runtime's interpreter executes: the one that has Airflow, but not this distribution.

`task_host_main.py` makes this folder importable there by its path. Its modules therefore import each other, the
standard library, httpx and Airflow, and nothing else. The agent shares with them how files are read and written that
both sides use, and imports only `job_files`, `log_file` and `lease` from here.
"""
