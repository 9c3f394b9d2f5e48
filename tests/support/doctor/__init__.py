"""Runs a doctor in a process of its own and reads its findings."""
