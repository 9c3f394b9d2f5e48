"""A browser as far as the operators' listener sees one: it keeps cookies."""

from http.cookies import SimpleCookie
from typing import Any

from edge_schemas.wire import routes
from support.relay.edge import Edge, Reply


class Browser:
    """Keeps the cookies that a relay sets, and sends them."""

    def __init__(self, edge: Edge, **headers: str) -> None:
        self.edge = edge
        self.headers = headers
        self.cookies: dict[str, str] = {}
        self.set_cookie = SimpleCookie()

    async def call(self, method: str, path: str, *, replica: int = 0, json: object = None, **more: str) -> Reply:
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        reply = await self.edge.call(method, path, json=json, headers=headers, operators=True, replica=replica)
        self.set_cookie = SimpleCookie()
        for line in reply.set_cookies:
            self.set_cookie.load(line)
        for name, cookie in self.set_cookie.items():
            self.cookies[name] = cookie.value
            if cookie["max-age"] == "0":
                del self.cookies[name]
        return reply

    async def sign_in(self, token: str) -> Any:
        reply = await self.call("POST", routes.ADMIN_SIGN_IN, json={"token": token})
        assert reply.status == 200, reply.body
        return reply.json
