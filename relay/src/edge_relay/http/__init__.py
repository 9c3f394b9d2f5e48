"""The relay's HTTP surface: handlers, middlewares, reading bodies, who is calling.

May import: every room below it (`dispatch`, `metrics`, `stores`, `identity`, `gate`) and aiohttp.web.
Never here: decisions about jobs or polls; a handler parses, calls one thing and replies.
"""
