"""Prints the figures of a working tree's structure, in Markdown.

`make structure` prints those of this tree, `make structure ARGS="--root DIR"` those of another checkout.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from structure import docstrings, hops, imports, sizes, typing_uses
from structure.bounds import broken, summary
from structure.sources import read
from structure.tables import Measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if bounds are to be checked and one is broken."""
    parser = argparse.ArgumentParser(prog="python -m structure", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="the checkout to measure")
    parser.add_argument("--entry", default=hops.ENTRY, help="where the call path begins: [MODULE:]CLASS.METHOD")
    parser.add_argument("--path", action="store_true", help="print the functions on the call path and nothing else")
    parser.add_argument("--check", action="store_true", help="end with status 1 if a bound is broken")
    options = parser.parse_args(arguments)
    modules = read(options.root)
    if options.path:
        try:
            sys.stdout.write(hops.listing(hops.path(modules, options.entry)))
        except hops.NoEntry as error:
            parser.error(str(error))
        return 0
    measures: list[Measure] = [
        sizes.folders(modules),
        sizes.module_sizes(modules),
        sizes.function_sizes(modules),
        sizes.class_sizes(modules),
        imports.import_circles(modules),
        typing_uses.any_table(modules),
        typing_uses.ignore_table(modules),
        imports.single_importers(modules),
        hops.hops(modules, options.entry),
        docstrings.docstring_table(modules),
    ]
    figures = {name: figure for measure in measures for name, figure in measure.figures.items()}
    tables = [table for measure in measures for table in measure.tables]
    sys.stdout.write("\n".join(table.text() for table in [*tables, summary(figures)]))
    return 1 if options.check and broken(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
