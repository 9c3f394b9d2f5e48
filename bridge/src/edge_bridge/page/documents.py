"""What the page has in Airflow only: a script for its frame, and what a person sees if it can't be shown."""

from html import escape
from pathlib import Path

from edge_schemas.wire.errors import ERRORS, EdgeError, ErrorCode

SCRIPT_NAME = "airflow-frame.js"
SCRIPT = Path(__file__).with_name("static") / SCRIPT_NAME
SCRIPT_TAG = f'<script src="../{SCRIPT_NAME}" defer></script>'.encode()
"""Opens links to Airflow in the window around the frame.

Airflow's sandbox lets a frame neither navigate the window nor open another one. The page's own scripts need not know
that they are in a frame.
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Edge Relay</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{detail}</p>
<p>{advice}</p>
</main>
</body>
</html>
"""
_ADVICE = {
    ErrorCode.RELAY_UNAVAILABLE: "Correct the settings of Airflow's api-server, then load this page again. On the "
    "machine of the api-server, 'airflow edge-relay doctor' checks these settings.",
    ErrorCode.FORBIDDEN: "Ask an administrator of Airflow for the right.",
}


def problem_page(error: EdgeError) -> bytes:
    """A page that says what is wrong and what to do."""
    return _PAGE.format(
        title=escape(ERRORS[error.code].title),
        detail=escape(error.detail or ""),
        advice=escape(_ADVICE.get(error.code, "")),
    ).encode()
