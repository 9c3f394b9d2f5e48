"""Checks the Execution API as the keeper calls it: does it answer, and does it accept the keeper's tokens?"""

import uuid
from collections.abc import Iterator

from edge_bridge.doctor.airflow_checks import JWT
from edge_bridge.keeper.settings import api_url
from edge_bridge.keeper.tokens import TokenScope, TokenSubject, mint_from_config
from edge_bridge.settings import Conf, SettingsError
from edge_service.findings import Check, Finding, failed, ok
from edge_service.http_probe import NoHttpAnswer, probe

ANSWERS, TOKEN = "api.answers", "api.token"
_NO_VARIABLE = "edge_relay_doctor"


class ApiDoctor:
    """Checks the api-server."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._url = ""

    def checks(self) -> Iterator[Check]:
        """First whether it answers, then whether it accepts a token."""
        yield Check(ANSWERS, self._answers)
        yield Check(TOKEN, self._token, (ANSWERS, JWT))

    async def _answers(self) -> Finding:
        try:
            self._url = api_url(self._conf).rstrip("/")
        except SettingsError as error:
            return failed(ANSWERS, str(error), "Write the whole URL, such as http://api-server:8080/execution/.")
        setting = "[edge_relay] execution_api_url or [core] execution_api_server_url"
        try:
            seen = await probe(f"{self._url}/health")
        except NoHttpAnswer as error:
            advice = f"Start 'airflow api-server', or correct {setting}."
            return failed(ANSWERS, f"no Execution API at {self._url}: {error}", advice)
        if seen.status != 200 or b"healthy" not in seen.body:
            advice = f"Correct {setting}: the URL ends with /execution/. Behind a proxy it must lead to the api-server."
            return failed(ANSWERS, f"the server at {self._url} is no Execution API (status {seen.status})", advice)
        return ok(ANSWERS, f"the Execution API answers at {self._url}")

    async def _token(self) -> Finding:
        """Request a variable that does not exist, for a task that does not exist."""
        token = mint_from_config().mint(TokenSubject(str(uuid.uuid4()), TokenScope.EXECUTION))
        try:
            seen = await probe(f"{self._url}/variables/{_NO_VARIABLE}", {"Authorization": f"Bearer {token}"})
        except NoHttpAnswer as error:
            return failed(TOKEN, f"no answer of the Execution API: {error}", "See the api-server's log.")
        if seen.status in (401, 403):
            advice = (
                "Give this machine, the keeper and the api-server one [api_auth] jwt_secret (and jwt_issuer, "
                "jwt_audience), and clocks within 10 s; restart what you change."
            )
            return failed(TOKEN, f"the api-server refuses a token that was signed here (status {seen.status})", advice)
        if seen.status >= 500:
            return failed(TOKEN, f"the Execution API fails (status {seen.status})", "See the api-server's log.")
        return ok(TOKEN, "the api-server accepts a token that was signed here")
