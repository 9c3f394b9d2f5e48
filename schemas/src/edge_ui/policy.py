"""What a browser may do with the dashboard: run its own scripts and styles, and call its own host."""

import re
from collections.abc import Iterable

SELF = "'self'"
NONE = "'none'"
_ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?")


def check_frame_ancestors(ancestors: Iterable[str]) -> tuple[str, ...]:
    """The pages that may show the dashboard in a frame, as `RELAY_UI_FRAME_ANCESTORS` names them.

    Raises:
        ValueError: One is neither `'self'`, `'none'` nor an origin; the text says what is allowed.
    """
    checked = tuple(ancestors)
    for ancestor in checked:
        if ancestor not in {SELF, NONE} and not _ORIGIN.fullmatch(ancestor):
            msg = f"{ancestor!r} must be 'self', 'none' (with the quotes) or an origin such as https://airflow.example"
            raise ValueError(msg)
    if NONE in checked and len(checked) > 1:
        msg = "'none' can't be combined with others"
        raise ValueError(msg)
    return checked or (NONE,)


def headers(frame_ancestors: tuple[str, ...]) -> dict[str, str]:
    """The headers of every file of the dashboard.

    No inline script or style, nothing from another host, and no string ever becomes HTML: Trusted Types refuse it.
    """
    policy = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        f"frame-ancestors {' '.join(frame_ancestors)}",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    result = {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    # For browsers that do not know frame-ancestors; it can't name other origins.
    if frame_ancestors in {(SELF,), (NONE,)}:
        result["X-Frame-Options"] = "SAMEORIGIN" if frame_ancestors == (SELF,) else "DENY"
    return result
