"""The relay: serves workers over HTTPS long polls, from queues in NATS JetStream."""
