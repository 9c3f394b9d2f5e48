"""`/ui`: the dashboard's page and its assets, on the operators' listener. Needs no credential: it holds no data."""

from typing import Final
from urllib.parse import quote

from aiohttp import web

from edge_relay.ui.files import UiFile, UiFiles
from edge_relay.ui.paths import UI, UI_ASSET, UI_PAGE, UI_VIEW
from edge_relay.ui.policy import headers

FOREVER: Final = "public, max-age=31536000, immutable"
CHECK_EACH_TIME: Final = "no-cache"


class UiHandlers:
    """The dashboard.

    Args:
        ui: Its files.
        frame_ancestors: Which pages may show it in a frame.
    """

    def __init__(self, ui: UiFiles, frame_ancestors: tuple[str, ...]) -> None:
        self._ui = ui
        self._headers = headers(frame_ancestors)

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.get(UI, self.add_slash),
            web.get(UI_PAGE, self.page),
            web.get(UI_ASSET.replace("{path}", "{path:.+}"), self.asset),
            web.get(UI_VIEW.replace("{view}", "{view:[a-z-]+(/[^/]+)?}"), self.view),
        ]

    async def add_slash(self, _: web.Request) -> web.Response:
        """The page's own addresses are relative to its folder."""
        return self._moved("ui/")

    async def page(self, request: web.Request) -> web.Response:
        """The page. Browsers ask each time whether it has changed: it names the assets."""
        return self._answer(request, self._ui.page, CHECK_EACH_TIME)

    async def asset(self, request: web.Request) -> web.Response:
        """An asset. A digest of another version gets this version's file, to be asked for again the next time."""
        found = self._ui.asset(request.match_info["path"])
        if found is None:
            raise web.HTTPNotFound
        is_current = request.match_info["digest"] == self._ui.digest
        return self._answer(request, found, FOREVER if is_current else CHECK_EACH_TIME)

    async def view(self, request: web.Request) -> web.Response:
        """`/ui/workers?state=offline` leads to the view of that name: the page keeps its view behind the `#`."""
        view = request.match_info["view"]
        folder = "../" if "/" in view else "./"
        query = f"?{request.query_string}" if request.query_string else ""
        return self._moved(f"{folder}#/{quote(view, safe='/%')}{quote(query, safe='?&=%+,*:~-._/')}")

    def _answer(self, request: web.Request, file: UiFile, caching: str) -> web.Response:
        answer = {**self._headers, "Cache-Control": caching, "ETag": file.etag, "Vary": "Accept-Encoding"}
        if file.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=answer)
        body = file.content
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body, answer["Content-Encoding"] = file.packed, "gzip"
        return web.Response(body=body, headers=answer, content_type=file.content_type, charset="utf-8")

    def _moved(self, to: str) -> web.Response:
        return web.Response(status=302, headers={**self._headers, "Location": to})
