"""The settings of sign-in for people, part of the relay's settings."""

import json
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from edge_schemas.admin.access import Role


class SignInSettings(BaseSettings):
    """Sessions of browsers, and the identity provider."""

    operators_public_url: str | None = Field(
        default=None,
        description="Address at which browsers reach the operators' listener, such as https://relay.example.org. "
        "Required with RELAY_OIDC_ISSUER. Without it, changes are accepted from the address that the browser called.",
    )
    session_s: int = Field(
        default=12 * 3600,
        ge=300,
        le=7 * 86400,
        description="Seconds after which a browser must sign in again.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="Issuer of the OpenID Connect provider, as in its tokens. Its keys and addresses are read from "
        "/.well-known/openid-configuration below it. Without it, only access tokens are accepted.",
    )
    oidc_name: str = Field(
        default="single sign-on", max_length=60, description="Name of the identity provider on the sign-in page."
    )
    oidc_client_id: str | None = Field(
        default=None, description="Client id of the relay at the provider. Required with RELAY_OIDC_ISSUER."
    )
    oidc_client_secret_file: Path | None = Field(
        default=None, description="File with the client secret. Without it, the relay is a public client with PKCE."
    )
    oidc_audience: str | None = Field(
        default=None,
        description="Audience that a bearer token of a script must name. Default: the client id.",
    )
    oidc_scopes: str = Field(
        default="openid profile email", description="Scopes that are asked for when a person signs in."
    )
    oidc_ca_file: Path | None = Field(default=None, description="PEM CA file for a provider with a private CA.")
    oidc_proxy_url: str | None = Field(
        default=None,
        description="Forward proxy for the relay's calls to the provider, such as http://proxy.example.org:3128. "
        "Without it, the relay calls the provider directly; HTTPS_PROXY is not read.",
    )
    oidc_name_claim: str = Field(
        default="preferred_username", description="Claim with the name that the audit shows. Without it: sub."
    )
    oidc_roles_claim: str = Field(
        default="roles",
        description="Claim with the roles or groups of a person; dots lead into nested claims: realm_access.roles.",
    )
    oidc_roles: Annotated[dict[str, Role], NoDecode] = Field(
        default_factory=dict,
        description="Which value of that claim gives which role, such as edge-ops=operator,edge-admins=admin. The "
        "highest role counts; without one, the person is refused.",
    )
    oidc_sites_claim: str | None = Field(
        default=None,
        description="Claim with the sites that a person may see; * is all of them. If it is set, a person without the "
        "claim is refused.",
    )
    oidc_queues_claim: str | None = Field(default=None, description="The same for queues.")

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def _split_roles(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        pairs = (part.rpartition("=") for part in value.split(",") if part.strip())
        return {name.strip(): role.strip() for name, _, role in pairs}

    @field_validator("oidc_roles")
    @classmethod
    def _check_roles(cls, roles: dict[str, Role]) -> dict[str, Role]:
        if Role.PRODUCER in roles.values():
            msg = "producers have access tokens; name viewer, operator or admin"
            raise ValueError(msg)
        return roles

    @field_validator("operators_public_url", "oidc_issuer", "oidc_proxy_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in value:
            msg = "must be an http:// or https:// address without credentials, query and fragment"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if self.oidc_issuer is None:
            return self
        needed = {
            "RELAY_OIDC_CLIENT_ID": self.oidc_client_id,
            "RELAY_OIDC_ROLES": self.oidc_roles,
            "RELAY_OPERATORS_PUBLIC_URL": self.operators_public_url,
        }
        if missing := [name for name, value in needed.items() if not value]:
            msg = f"RELAY_OIDC_ISSUER needs {', '.join(missing)}"
            raise ValueError(msg)
        return self
