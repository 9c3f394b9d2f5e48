"""`edge-relay submit`: submits jobs to a queue and follows them, over the workers' listener."""
