"""`airflow edge-relay doctor`: finds the layer that keeps tasks from running at the edge, and prints the remedy.

For the machine on which the scheduler runs, or any other with the same configuration. Needs no running scheduler.
May import: the rest of the bridge, `edge_broker`, `edge_service`, `edge_schemas` and Airflow.
Never here: changes of what is checked.
"""
