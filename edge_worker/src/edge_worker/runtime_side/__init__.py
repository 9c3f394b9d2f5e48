"""The part of the worker that the runtime's interpreter executes: the one that has Airflow, but not this distribution.

`task_host_main.py` makes this folder importable there by its path. Its modules therefore import each other, the
standard library, httpx and Airflow, and nothing else. Of the agent's modules, those that read a job's folder import
`job_files` and nothing else from here.
"""
