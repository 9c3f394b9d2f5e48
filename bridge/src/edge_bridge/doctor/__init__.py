"""`airflow edge-relay doctor`: names the layer that keeps tasks from running at the edge, and says what to do.

For the machine on which the scheduler runs, or any other with the same configuration. It looks as the NATS users whose
passwords are there, asks Airflow's database and api-server, needs no running scheduler, and changes nothing.
"""
