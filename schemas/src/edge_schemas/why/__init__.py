"""Why a job waits: from plain facts to causes in sentences. Pure, for relay and keeper.

May import: `admin`, `life`, `wire`, pydantic and the standard library.
Never here: I/O, a clock, knowledge of NATS, HTTP or Airflow.
"""
