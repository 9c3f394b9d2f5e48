"""A real Airflow and its stand-ins: database, api-server, Execution API, keeper, and jobs of the Task SDK."""
