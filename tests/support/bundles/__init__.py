"""Bundles that Airflow publishes to a real NATS."""
