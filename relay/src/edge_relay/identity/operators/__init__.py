"""Operators: who they are, and the tokens that they use and create."""
