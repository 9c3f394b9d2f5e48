"""Edge Relay's page inside Airflow's UI: serves the dashboard and forwards its calls to the operators' listener.

May import: `settings`, `edge_schemas`, `edge_ui`, FastAPI, aiohttp and Airflow.
Never here: NATS, Airflow's database, decisions about the fleet. The relay decides; this room says who asks.
"""
