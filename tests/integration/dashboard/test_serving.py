"""How the relay serves the files: headers, caching, and paths that lead nowhere else."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from edge_ui.serving import FOREVER
from support.dashboard.api import UI_FILES, FakeApi
from support.dashboard.browser import Served
from support.dashboard.fleet import Fleet

MODULE = f"assets/{UI_FILES.digest}/js/main.js"


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client that follows no redirect by itself, and the page's address."""
    served = Served(FakeApi(Fleet()))
    await served.start()
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session, served.url
    await served.stop()


Client = tuple[aiohttp.ClientSession, str]


async def test_the_page_is_checked_each_time_and_its_assets_are_kept(client: Client) -> None:
    session, url = client
    async with session.get(url) as page:
        assert page.headers["Cache-Control"] == "no-cache"
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        etag = page.headers["ETag"]
    async with session.get(url, headers={"If-None-Match": etag}) as same:
        assert same.status == 304
        assert "Content-Security-Policy" in same.headers
    async with session.get(url + MODULE) as asset:
        assert asset.headers["Cache-Control"] == FOREVER
        assert asset.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert asset.headers["X-Content-Type-Options"] == "nosniff"
        assert "script-src 'self'" in asset.headers["Content-Security-Policy"]


async def test_an_asset_of_another_version_is_not_kept(client: Client) -> None:
    session, url = client
    async with session.get(f"{url}assets/0123456789abcdef/js/main.js") as asset:
        assert asset.status == 200
        assert asset.headers["Cache-Control"] == "no-cache"


async def test_assets_are_packed_for_who_can_unpack_them(client: Client) -> None:
    session, url = client
    async with session.get(url + MODULE, headers={"Accept-Encoding": "gzip"}) as packed:
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.headers["Vary"] == "Accept-Encoding"
        small = len(await packed.read())
    async with session.get(url + MODULE, headers={"Accept-Encoding": "identity"}) as plain:
        assert "Content-Encoding" not in plain.headers
        assert small < len(await plain.read())


@pytest.mark.parametrize(
    "path",
    [
        f"assets/{UI_FILES.digest}/../../../files.py",
        f"assets/{UI_FILES.digest}/%2e%2e/%2e%2e/files.py",
        f"assets/{UI_FILES.digest}/..%2f..%2ffiles.py",
        f"assets/{UI_FILES.digest}//etc/passwd",
        f"assets/{UI_FILES.digest}/js",
        f"assets/{UI_FILES.digest}/js/main.js%00.txt",
        f"assets/{UI_FILES.digest}/vendor/README.md",
    ],
)
async def test_no_path_leads_out_of_the_files(client: Client, path: str) -> None:
    session, url = client
    async with session.get(URL(url + path, encoded=True), allow_redirects=False) as answer:
        assert answer.status == 404
        assert b"import" not in await answer.read()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "/ui/"),
        ("/ui", "/ui/"),
        ("/ui/workers?state=offline&site=a", "/ui/#/workers?state=offline&site=a"),
        ("/ui/workers/edge-1", "/ui/#/workers/edge-1"),
        ("/ui/jobs/%3Cscript%3E", "/ui/#/jobs/%3Cscript%3E"),
    ],
)
async def test_the_address_of_a_view_leads_to_the_page(client: Client, path: str, target: str) -> None:
    session, url = client
    base = URL(url).origin()
    async with session.get(URL(f"{base}{path}", encoded=True), allow_redirects=False) as answer:
        assert answer.status == 302
        location = URL(answer.headers["Location"], encoded=True)
        assert str(URL(f"{base}{path}", encoded=True).join(location)) == f"{base}{target}"


async def test_a_view_can_not_lead_to_another_host(client: Client) -> None:
    session, url = client
    for path in ("/ui//evil.example/x", "/ui/%2F%2Fevil.example", "/ui/a/%0d%0aSet-Cookie:x"):
        async with session.get(URL(f"{URL(url).origin()}{path}", encoded=True), allow_redirects=False) as answer:
            location = answer.headers.get("Location", "")
            assert answer.status == 404 or location.startswith(("./#", "../#"))
            assert "Set-Cookie" not in answer.headers
