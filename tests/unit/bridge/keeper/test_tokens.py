"""Tokens as Airflow's own validator reads them."""

import uuid

import pytest
from airflow.api_fastapi.auth.tokens import JWTValidator
from airflow.configuration import conf

from edge_bridge.keeper.tokens import (
    TOKEN_LIFE_S,
    SigningUnavailable,
    TokenScope,
    TokenSubject,
    mint_from_config,
    subject_of,
)
from edge_schemas.life.model import new_record
from edge_schemas.wire.jobs import AuxiliaryKind
from support.relay.jobs import make_auxiliary_job, make_job

KEY = "k" * 64


@pytest.mark.parametrize("scope", list(TokenScope))
async def test_a_token_speaks_in_one_name_for_a_minute(monkeypatch: pytest.MonkeyPatch, scope: TokenScope) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", KEY)
    ti_id = str(uuid.uuid4())
    token = mint_from_config().mint(TokenSubject(ti_id, scope))
    audience = conf.get_mandatory_list_value("execution_api", "jwt_audience")[0]
    claims = await JWTValidator(secret_key=KEY, audience=audience, algorithm=["HS512"]).avalidated_claims(token)
    assert claims["sub"] == ti_id
    assert claims["scope"] == scope.value
    assert claims["exp"] - claims["iat"] == TOKEN_LIFE_S


def test_only_a_connection_test_speaks_with_the_scope_of_a_workload() -> None:
    task = make_job()
    assert task.task is not None
    assert subject_of(new_record(task)) == TokenSubject(task.task.ti_id, TokenScope.EXECUTION)
    for kind, scope in (
        (AuxiliaryKind.CALLBACK, TokenScope.EXECUTION),
        (AuxiliaryKind.CONNECTION_TEST, TokenScope.WORKLOAD),
    ):
        auxiliary = make_auxiliary_job(kind=kind)
        assert auxiliary.auxiliary is not None
        assert subject_of(new_record(auxiliary)) == TokenSubject(auxiliary.auxiliary.id, scope)


def test_without_a_key_the_keeper_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "")
    with pytest.raises(SigningUnavailable, match="jwt_secret"):
        mint_from_config()
