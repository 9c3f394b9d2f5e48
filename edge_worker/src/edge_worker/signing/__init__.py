"""Signed work at the edge: which keys this worker trusts, and which jobs it runs because of that."""
