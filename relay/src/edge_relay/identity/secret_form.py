"""The form of a secret, checked before the broker is asked."""

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.workers import SecretKind

SECRET_CHARS = 47


def check_secret(secret: str, kind: SecretKind) -> None:
    """Refuse what can't be a secret of this kind.

    Raises:
        EdgeError: `unauthenticated`.
    """
    well_formed = len(secret) == SECRET_CHARS and secret.isascii() and secret.startswith(kind)
    if not well_formed:
        raise EdgeError(ErrorCode.UNAUTHENTICATED, f"this call needs a credential that begins with {kind}")
