"""Ed25519: keys, signatures, and the key sets of a centre. The cryptography is imported on first use only."""
