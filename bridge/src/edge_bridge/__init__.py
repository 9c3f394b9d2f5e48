"""The bridge: Airflow on one side, NATS JetStream on the other."""
