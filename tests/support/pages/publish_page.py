"""The commands of the page about publishing DAG code, each with what it prints."""

from support.pages.pages import Page

PUBLISH: Page[str] = Page(
    "docs/howto/publish-dag-code.md",
    run={
        "airflow edge-relay bundles publish dags": r"^new +2 pieces, \d+ bytes stored$",
        "airflow edge-relay bundles publish --path ./checkout --name dags --requirements requirements.txt": (
            r"^files +3 with \d+ bytes$"
        ),
        "airflow edge-relay bundles list": r"^dags +[0-9a-f]{12} +current +3 ",
        "airflow edge-relay bundles show dags": r"^- +\d+  requirements\.txt$",
    },
)
