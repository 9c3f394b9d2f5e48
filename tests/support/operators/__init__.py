"""Relays on real sockets, a fake relay for workers, and the gate and the workers that a relay speaks to."""
