"""Ed25519: keys, signatures, and the key sets of a centre. The cryptography is imported on first use only.

May import: `private_files`, `edge_schemas`, pydantic and cryptography.
Never here: the network; a private key in an error.
"""
