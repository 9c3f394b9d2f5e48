"""Uses of `Any`, and `type: ignore` comments."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence

from structure.bounds import ANY, IGNORES
from structure.sources import PARTS, SOURCE, Module, packages
from structure.tables import Measure, Row, Table

_IGNORE = re.compile(r"#\s*type:\s*ignore\b(\[[^\]]*\])?")
_NOQA = re.compile(r"#\s*noqa\b(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?")
_WORD = re.compile(r"[^\W\d_]")
_MOST = 15


def any_uses(module: Module) -> tuple[int, int]:
    """How often `Any` stands in annotations, and elsewhere; the import of the name is not a use."""
    inside = sum(_count(annotation, quoted=True) for annotation in _annotations(module.tree))
    return inside, _count(module.tree) - sum(_count(annotation) for annotation in _annotations(module.tree))


def ignores(module: Module) -> list[tuple[int, bool]]:
    """The line of each `type: ignore`, and whether there is a reason on this line or in a comment directly above."""
    if not _IGNORE.search(module.text):
        return []
    comments: dict[int, str] = {}
    own_line = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string
            if token.line.lstrip().startswith("#"):
                own_line.add(token.start[0])
    return [
        (line, _has_reason(comment) or (line - 1 in own_line and _has_reason(comments[line - 1])))
        for line, comment in comments.items()
        if _IGNORE.search(comment)
    ]


def any_table(modules: Sequence[Module]) -> Measure:
    """Uses of `Any` for each source package, and the files with most of them."""
    source = [module for module in modules if module.part == SOURCE]
    rows: list[Row] = []
    by_file: Counter[str] = Counter()
    for package, inside in packages(source).items():
        annotated = elsewhere = 0
        for module in inside:
            uses = any_uses(module)
            by_file[str(module.file)] = sum(uses)
            annotated, elsewhere = annotated + uses[0], elsewhere + uses[1]
        rows.append((package, annotated, elsewhere, annotated + elsewhere))
    note = "The name `Any` in the syntax tree, without imports, docstrings and comments; quoted annotations count."
    most = [(file, count) for file, count in sorted(by_file.items(), key=lambda one: (-one[1], one[0])) if count]
    return Measure(
        [
            Table("Uses of Any", ("package", "in annotations", "elsewhere", "together"), rows, note),
            Table(f"The {_MOST} files with most uses of Any", ("file", "uses"), most[:_MOST]),
        ],
        {ANY: by_file.total()},
    )


def ignore_table(modules: Sequence[Module]) -> Measure:
    """`type: ignore` in all parts."""
    rows: list[Row] = []
    bare: list[Row] = []
    for part in PARTS:
        found = [
            (module, line, reason) for module in modules if module.part == part for line, reason in ignores(module)
        ]
        without = [(part, f"{module.file}:{line}") for module, line, reason in found if not reason]
        rows.append((part, len(found), len(without)))
        bare += without
    note = "A reason is text in a comment on the same line or alone on the line directly above; `noqa` is no reason."
    return Measure(
        [
            Table("type: ignore", ("part", "count", "without a reason"), rows, note),
            Table("type: ignore without a reason", ("part", "where"), bare),
        ],
        {IGNORES: len(bare)},
    )


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        annotation: ast.expr | None = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            annotation = node.returns
        elif isinstance(node, ast.arg | ast.AnnAssign):
            annotation = node.annotation
        if annotation is not None:
            yield annotation


def _count(tree: ast.AST, *, quoted: bool = False) -> int:
    found = 0
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="Any") | ast.Attribute(value=ast.Name(id="typing"), attr="Any"):
                found += 1
            case ast.Constant(value=str(text)) if quoted:
                found += len(re.findall(r"\bAny\b", text))
    return found


def _has_reason(comment: str) -> bool:
    return _WORD.search(_NOQA.sub("", _IGNORE.sub("", comment))) is not None
