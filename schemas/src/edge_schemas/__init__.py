"""The wire of Edge Relay and the life of a job, written once."""
