"""Tasks that keep a ledger, whoever takes parts of the system away, and a judge who compares it with Airflow."""
