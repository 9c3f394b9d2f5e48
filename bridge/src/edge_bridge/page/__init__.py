"""Edge Relay's page inside Airflow's UI: a part of the api-server that forwards to the relay's operators' listener.

May import: `settings`, `edge_schemas`, FastAPI, aiohttp and Airflow.
Never here: NATS, Airflow's database, decisions about the fleet. The relay decides; this room says who asks.
"""
