"""Tokens as Airflow's own validator reads them."""

import uuid

import pytest
from airflow.api_fastapi.auth.tokens import JWTValidator
from airflow.configuration import conf

from edge_bridge.keeper.tokens import TOKEN_LIFE_S, SigningUnavailable, mint_from_config

KEY = "k" * 64


async def test_a_token_speaks_for_one_task_instance_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", KEY)
    ti_id = str(uuid.uuid4())
    token = mint_from_config().mint(ti_id)
    audience = conf.get_mandatory_list_value("execution_api", "jwt_audience")[0]
    claims = await JWTValidator(secret_key=KEY, audience=audience, algorithm=["HS512"]).avalidated_claims(token)
    assert claims["sub"] == ti_id
    assert claims["scope"] == "execution"
    assert claims["exp"] - claims["iat"] == TOKEN_LIFE_S


def test_without_a_key_the_keeper_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "")
    with pytest.raises(SigningUnavailable, match="jwt_secret"):
        mint_from_config()
