"""What the process of the user code gets before it is forked from its supervisor.

May import: the standard library and Airflow.
Never here: anything that runs in the supervisor.
"""
