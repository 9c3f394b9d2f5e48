"""The keys of `edge_bundles`.

`<bundle>.current` is the version that a run without a version gets, `<bundle>.published.<digest>` a published version,
and `<bundle>.version.<version>` leads from a version as Airflow knows it, such as a commit, to the digest.
"""

import hashlib

from edge_schemas.wire.ids import encode_name

CURRENT = "current"
PUBLISHED = "published"
VERSION = "version"
_LONGEST_TOKEN = 200


def current_key(bundle: str) -> str:
    """The key of the current version."""
    return f"{_token(bundle)}.{CURRENT}"


def published_key(bundle: str, digest: str) -> str:
    """The key of a published version; `*` as digest for all of a bundle."""
    return f"{_token(bundle)}.{PUBLISHED}.{digest}"


def version_key(bundle: str, version: str) -> str:
    """The key of a version as Airflow knows it."""
    return f"{_token(bundle)}.{VERSION}.{_token(version)}"


def versions_pattern(bundle: str) -> str:
    """Matches the keys of all versions of a bundle as Airflow knows them."""
    return f"{_token(bundle)}.{VERSION}.*"


def kind_of(key: str) -> str:
    """`CURRENT`, `PUBLISHED` or `VERSION`; another text for a key of a later version."""
    return key.split(".")[1] if "." in key else ""


def _token(text: str) -> str:
    """A text as one subject token; only its hash if it is long. Entries hold the text itself."""
    token = encode_name(text)
    # No encoded name begins so: in it, two hexadecimal digits follow each `_`.
    return token if len(token) <= _LONGEST_TOKEN else f"__{hashlib.sha256(text.encode()).hexdigest()}"
