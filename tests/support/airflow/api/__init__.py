"""The Execution API: a stand-in, the routes of the real one, every write, and what Airflow holds afterwards."""
