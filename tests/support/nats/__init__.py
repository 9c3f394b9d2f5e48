"""A real nats-server with the users and streams of an installation, and what its clients see of it."""
