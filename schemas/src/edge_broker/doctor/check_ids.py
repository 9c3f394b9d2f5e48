"""The stable ids of the checks of NATS; other checks name them as what they need."""

CA_FILE = "settings.nats_ca_file"
DNS, CONNECT, VERSION, TLS = "nats.dns", "nats.connect", "nats.version", "nats.tls"
JETSTREAM, STREAMS, REPLICAS = "nats.jetstream", "nats.streams", "nats.replicas"
CONSUMERS, STORE, CLOCK = "nats.consumers", "nats.store", "nats.clock"


def credentials(role: str) -> str:
    """The check that a role can log in."""
    return f"nats.credentials.{role}"


def rights(role: str) -> str:
    """The check that a role has its rights."""
    return f"nats.rights.{role}"
