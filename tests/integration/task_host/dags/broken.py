"""A DAG that cannot be imported here."""

import no_such_driver  # type: ignore[import-not-found]  # noqa: F401
