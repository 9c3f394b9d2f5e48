"""The relay: HTTPS long-polls in front, NATS JetStream behind."""
