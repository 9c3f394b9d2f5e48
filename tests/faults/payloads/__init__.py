"""Payloads of producers while their consumers are killed and cut off."""
