"""Errors of sockets and TLS in words, with advice."""

import os
import socket
import ssl


def reason(error: BaseException) -> str:
    """What went wrong, without the address that the caller names anyway."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    # asyncio's own text repeats the address instead of the reason.
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def tls_advice(error: BaseException, setting: str) -> str:
    """What to do about a failed handshake.

    Args:
        error: Why it failed.
        setting: The name of the setting with the servers.
    """
    text = reason(error).lower()
    if "expired" in text:
        return "Renew the certificate of nats-server."
    if "mismatch" in text or "not valid for" in text:
        return f"Write a name that is in the certificate of nats-server into {setting}, or renew it with this name."
    return "Name the CA that signed nats-server's certificate in the setting for its CA file."
