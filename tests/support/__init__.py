"""What several tests need: a real broker, ports, waiting for a condition."""
