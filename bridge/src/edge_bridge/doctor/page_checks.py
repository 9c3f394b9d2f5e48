"""Checks the page in Airflow's UI: its settings, the relay that it calls, and the rights of its token."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from edge_bridge.page.settings import CA_FILE, NEW_TOKEN, TOKEN, TOKEN_FILE, URLS, operators_tls, operators_urls
from edge_bridge.settings import SECTION, Conf, SettingsError, secret, text
from edge_schemas.wire import routes
from edge_service.findings import Check, Finding, Status, failed, ok, warning
from edge_service.http_probe import NoHttpAnswer, probe

SETTINGS, HAS_TOKEN, RELAY, RIGHTS = "page.settings", "page.has_token", "page.relay", "page.rights"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class PageDoctor:
    """Checks the page. Without its first setting there is nothing to check: the page is optional."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._urls: tuple[str, ...] = ()
        self._token = ""

    def checks(self) -> Iterator[Check]:
        """The settings first, then the relay as the page calls it."""
        yield Check(SETTINGS, self._settings)
        if text(self._conf, URLS):
            yield Check(HAS_TOKEN, self._has_token, (SETTINGS,))
            yield Check(RELAY, self._relay, (SETTINGS,))
            yield Check(RIGHTS, self._rights, (HAS_TOKEN, RELAY))

    async def _settings(self) -> Finding:
        if not text(self._conf, URLS):
            return ok(SETTINGS, f"the page in Airflow's UI is not set up: [{SECTION}] {URLS} is empty")
        try:
            self._urls = operators_urls(self._conf)
            operators_tls(self._conf)
        except SettingsError as error:
            return failed(SETTINGS, str(error), f"Correct it in section [{SECTION}] of airflow.cfg.")
        open_urls = [url for url in self._urls if url.startswith("http://") and not _is_local(url)]
        if open_urls:
            detail = f"the page calls {', '.join(open_urls)} without TLS"
            return warning(SETTINGS, detail, "Fine in a network of their own: who reads it there has the access token.")
        return ok(SETTINGS, f"the page calls {', '.join(self._urls)}")

    async def _has_token(self) -> Finding:
        try:
            self._token = secret(self._conf, TOKEN, TOKEN_FILE)
        except SettingsError as error:
            advice = (
                f"Only the api-server needs it: run the doctor where that runs. There is none? {_sentence(NEW_TOKEN)}"
            )
            return warning(HAS_TOKEN, str(error), advice)
        return ok(HAS_TOKEN, "there is an access token for the page")

    async def _relay(self) -> Finding:
        problems = []
        for url in self._urls:
            try:
                seen = await probe(f"{url}{routes.HEALTHZ}", tls=operators_tls(self._conf))
            except NoHttpAnswer as error:
                problems.append(f"{url}: {error}")
            else:
                if seen.status != 200:
                    problems.append(f"{url}: what answers is no relay (status {seen.status})")
        if len(problems) == len(self._urls):
            advice = f"Start a relay, or correct [{SECTION}] {URLS} and {CA_FILE}."
            return failed(RELAY, f"no relay answers the page: {'; '.join(problems)}", advice)
        if problems:
            return warning(RELAY, f"not every relay answers: {'; '.join(problems)}", "The page uses the others.")
        return ok(RELAY, "the operators' listeners answer")

    async def _rights(self) -> Finding:
        from edge_bridge.page.trust import distrust, probe_headers

        if not self._token:
            return Finding(RIGHTS, Status.NOT_TRIED, f"{RIGHTS}: because of {HAS_TOKEN}")
        headers = probe_headers() | {"Authorization": f"Bearer {self._token}"}
        for url in self._urls:
            try:
                seen = await probe(f"{url}{routes.ADMIN_SESSION}", headers, tls=operators_tls(self._conf))
            except NoHttpAnswer:
                continue  # `RELAY` has named it
            if seen.status == 401:
                detail = "the relay does not know the page's access token, or it has expired"
                return failed(RIGHTS, detail, _sentence(NEW_TOKEN))
            if why := distrust(seen.status, seen.body):
                return failed(RIGHTS, "the page can't use its access token", _sentence(why))
            return ok(RIGHTS, "the relay limits the page's users to their rights in Airflow")
        return failed(RIGHTS, "no relay answers", f"See {RELAY}.")


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def _sentence(text_: str) -> str:
    return f"{text_[:1].upper()}{text_[1:]}."
