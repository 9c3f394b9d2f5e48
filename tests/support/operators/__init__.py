"""Fakes of the operators' API: one from the contract's models, one that records calls."""
