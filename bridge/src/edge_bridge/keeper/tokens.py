"""Tokens for the Execution API, minted for each call: no stored token can expire or be stolen."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edge_schemas.life.model import JobRecord
from edge_schemas.wire.jobs import AuxiliaryKind

TOKEN_LIFE_S = 60
"""Longer than a call may take; Airflow allows ten more seconds for clocks that differ."""


class TokenScope(StrEnum):
    """What a token of the Execution API allows."""

    EXECUTION = "execution"
    """All calls but those of connection tests."""
    WORKLOAD = "workload"
    """The calls of connection tests, which accept no other token; and `/run`, for which the keeper uses EXECUTION."""


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """The subject of a token: in whose name a call is made.

    Attributes:
        id: Of a task instance, a callback or a connection test.
    """

    id: str
    scope: TokenScope


def subject_of(record: JobRecord) -> TokenSubject:
    """The subject in whose name the calls of a job are made."""
    if record.auxiliary is not None:
        is_test = record.auxiliary.kind is AuxiliaryKind.CONNECTION_TEST
        return TokenSubject(record.auxiliary.id, TokenScope.WORKLOAD if is_test else TokenScope.EXECUTION)
    assert record.task is not None  # noqa: S101  # a job is one or the other
    return TokenSubject(record.task.ti_id, TokenScope.EXECUTION)


class Signer(Protocol):
    """What is used of Airflow's `JWTGenerator`."""

    def generate(self, extras: dict[str, str]) -> str:
        """A signed token with these claims in addition to the usual ones."""


class SigningUnavailable(Exception):
    """Airflow's configuration has no key to sign with; the text names the settings."""


class TokenMint:
    """Mints tokens. Signing takes some 30 µs: nothing is cached."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def mint(self, subject: TokenSubject) -> str:
        """A token for this subject."""
        return self._signer.generate({"sub": subject.id, "scope": subject.scope.value})


def mint_from_config() -> TokenMint:
    """A mint with the key, audience and issuer of Airflow's configuration.

    Raises:
        SigningUnavailable: There is no key.
    """
    from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_args
    from airflow.configuration import conf

    try:
        key = get_signing_args(make_secret_key_if_needed=False)
    except ValueError as error:
        raise SigningUnavailable(
            "set [api_auth] jwt_secret or jwt_private_key_path as on the api-server: the keeper signs with it"
        ) from error
    audience = conf.get_mandatory_list_value("execution_api", "jwt_audience")[0]
    issuer = conf.get("api_auth", "jwt_issuer", fallback=None)
    return TokenMint(JWTGenerator(valid_for=TOKEN_LIFE_S, audience=audience, issuer=issuer, **key))
