"""Tokens for the Execution API, minted for each call: none waits anywhere, to expire or to be stolen."""

from typing import Protocol

TOKEN_LIFE_S = 60
"""Longer than a call may take; Airflow allows ten more seconds for clocks that differ."""


class Signer(Protocol):
    """What is used of Airflow's `JWTGenerator`."""

    def generate(self, extras: dict[str, str]) -> str:
        """A signed token with these claims besides the usual ones."""


class SigningUnavailable(Exception):
    """Airflow's configuration has nothing to sign with; the text says what to set."""


class TokenMint:
    """Makes execution tokens. Signing takes some 30 µs: nothing is cached."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def mint(self, ti_id: str) -> str:
        """A token that speaks for this task instance."""
        return self._signer.generate({"sub": ti_id, "scope": "execution"})


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
