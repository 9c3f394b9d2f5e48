"""The life of a job and of an agent: pure functions that decide, from a record and an event, what comes next.

May import: `wire`, pydantic and the standard library.
Never here: I/O, a clock, knowledge of NATS, HTTP or Airflow.
"""
