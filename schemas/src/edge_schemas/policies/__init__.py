"""Need to know: what the jobs of a queue or a site may use of Airflow, and what they have used. Pure.

May import: `wire`, pydantic, the standard library.
Never here: I/O; who may set a policy.
"""
