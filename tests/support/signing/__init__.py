"""Signing keys for tests: made once, used as an executor uses its own."""
