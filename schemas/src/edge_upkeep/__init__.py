"""What keeps a job going without its worker: whose message is next, and whose silent holder is given up.

May import: `edge_broker`, `edge_schemas` and structlog. Executor and keeper do this for Airflow's jobs, relays for
submitted jobs.
Never here: Airflow, an HTTP server, or what is done for one kind of jobs only.
"""
