"""Task logs in Airflow's UI, read from JetStream for running and ended jobs.

May import: `executor`, `portal`, `settings`, `edge_broker`, `edge_schemas` and Airflow.
Never here: writes of logs; workers send them through the relay.
"""
