"""`edge-worker runtime`: makes the Airflow runtime that tasks run in, and looks at it."""
