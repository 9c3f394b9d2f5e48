"""Task logs in Airflow's UI: reads them from JetStream for running and ended jobs.

May import: `executor`, `portal`, `settings`, `edge_broker` and Airflow.
Never here: writing logs; workers send them through the relay.
"""
