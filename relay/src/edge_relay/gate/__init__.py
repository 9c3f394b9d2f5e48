"""The relay's client of the keepers' gates: forwards Execution API calls, asks for facts about the centre.

May import: `settings`, `edge_schemas`, `edge_service` and the aiohttp client.
Never here: Airflow, tokens, handlers.
"""
