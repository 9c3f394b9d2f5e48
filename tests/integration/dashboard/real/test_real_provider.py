"""Signing in at an identity provider that is not ours, through the page: the npm package oidc-provider."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from edge_schemas.wire import routes
from support.nats.server import eventually, free_port
from support.network.forward_proxy import forward_proxy
from support.relay.edge import Edge, running_edge

PACKAGE = "oidc-provider@9.13.3"
SCRIPT = Path(__file__).parents[3] / "support" / "relay" / "real_oidc_provider.mjs"
CLIENT, SECRET = "edge-relay", "the client's: secret/1"
API = "urn:edge-relay:operators"
pytestmark = [pytest.mark.soak, pytest.mark.timeout(180)]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the provider, fresh from the registry; its scripts of installation are not run."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no node or no npm: install Node.js to run the provider")
    folder = tmp_path_factory.mktemp("provider")
    shutil.copy(SCRIPT, folder)
    command = f"{npm} install --silent --no-audit --no-fund --ignore-scripts --prefix {folder} {PACKAGE}"
    assert os.system(command) == 0, command
    return folder


@asynccontextmanager
async def provider(package: Path, redirect: str, id_token: str) -> AsyncIterator[str]:
    """Its issuer."""
    port = free_port()
    with (package / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("node", str(package / SCRIPT.name), str(port), CLIENT, SECRET, redirect, id_token), stdout=log, stderr=log
        )
    try:
        await eventually(lambda: b"ready" in (package / "log").read_bytes(), timeout_s=30, what="the provider listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def relay(package: Path, folder: Path, id_token: str, *, proxied: bool) -> AsyncIterator[tuple[Edge, str]]:
    """A relay that is a client of the provider, and the issuer."""
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    secret = folder / "client.secret"
    secret.write_text(SECRET)
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(provider(package, public + routes.ADMIN_OIDC_RETURN, id_token))
        proxy = await stack.enter_async_context(forward_proxy(folder)) if proxied else None
        edge = await stack.enter_async_context(
            running_edge(
                folder,
                operators_port=port,
                operators_public_url=public,
                oidc_issuer=issuer,
                oidc_name="Example",
                oidc_client_id=CLIENT,
                oidc_client_secret_file=secret,
                oidc_audience=API,
                oidc_roles="edge-ops=operator",
                oidc_proxy_url=f"http://127.0.0.1:{proxy}" if proxied else None,
            )
        )
        yield edge, issuer


@pytest.mark.parametrize(("id_token", "proxied"), [("full", False), ("lean", False), ("lean", True)])
async def test_a_person_signs_in_through_the_page(
    browser: Browser, package: Path, tmp_path: Path, id_token: str, proxied: bool
) -> None:
    """The role comes from the ID token, or from the UserInfo endpoint if the ID token is lean."""
    async with relay(package, tmp_path, id_token, proxied=proxied) as (edge, _):
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{edge.relays[0].operators_url}/ui/#/workers")
        await page.get_by_role("link", name="Sign in with Example").click()
        await page.get_by_placeholder("Enter any login").fill("ann")
        await page.get_by_placeholder("and password").fill("anything")
        await page.get_by_role("button", name="Sign-in").click()
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        await expect(page.locator(".who-name")).to_contain_text("ann operator")
        await page.reload()
        await expect(page.locator(".who-name")).to_contain_text("ann operator")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("link", name="Sign in with Example")).to_be_visible()
        await context.close()


async def test_a_person_who_declines_is_told_so(browser: Browser, package: Path, tmp_path: Path) -> None:
    async with relay(package, tmp_path, "full", proxied=False) as (edge, _):
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{edge.relays[0].operators_url}/ui/")
        await page.get_by_role("link", name="Sign in with Example").click()
        await page.get_by_role("link", name="Cancel").click()
        await expect(page.get_by_text("Signing in failed")).to_be_visible()
        await context.close()


async def test_a_script_calls_with_an_access_token_of_the_provider(package: Path, tmp_path: Path) -> None:
    """A JWT of RFC 9068, for the audience of the relay's API, checked by the keys that the provider publishes."""
    async with relay(package, tmp_path, "full", proxied=False) as (edge, issuer), aiohttp.ClientSession() as session:

        async def token(**more: str) -> str:
            form = {"grant_type": "client_credentials", **more}
            # RFC 6749 has both parts of the credential encoded as in a form.
            headers = {"Authorization": aiohttp.encode_basic_auth(CLIENT, quote_plus(SECRET))}
            async with session.post(f"{issuer}/token", data=form, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                return str((await answer.json())["access_token"])

        shown = await edge.call("GET", routes.ADMIN_SESSION, await token(resource=API), operators=True)
        assert (shown.json["name"], shown.json["role"], shown.json["by"]) == (CLIENT, "operator", "oidc")
        altered = (await token(resource=API))[:-6] + "AAAAAA"
        assert (await edge.call("GET", routes.ADMIN_SESSION, altered, operators=True)).status == 401
        other = await token(resource="urn:other")
        assert (await edge.call("GET", routes.ADMIN_SESSION, other, operators=True)).status == 401
