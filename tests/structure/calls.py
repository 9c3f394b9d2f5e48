"""Which functions of the package a function calls, or passes on as callbacks."""

import ast
from collections.abc import Iterator

from structure.scopes import Function, Key
from structure.values import Kind, Values
from structure.variables import local_scope


def callees(values: Values, function: Function) -> list[Key]:
    """The functions in the order of the text, each use of one.

    Naming a function counts like a call, since a callback is called on behalf of the function that passes it on. Inner
    functions and lambdas are part of the function that contains them. Constructors, properties and magic methods are
    not followed.
    """
    scope = local_scope(values, function)
    found = []
    for node in _uses(function.node.body):
        refs = values.of(node, scope)
        found += sorted(ref.key for ref in refs if ref.kind is Kind.FUNCTION)
    return found


def _uses(body: list[ast.stmt]) -> Iterator[ast.Name | ast.Attribute]:
    """The names and attributes that are read, without annotations, decorators and types of exceptions."""
    for statement in body:
        yield from _uses_in(statement)


def _uses_in(node: ast.AST) -> Iterator[ast.Name | ast.Attribute]:
    parts: list[ast.AST | None]
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            parts = [*node.args.defaults, *node.args.kw_defaults, *node.body]
        case ast.Lambda():
            parts = [*node.args.defaults, *node.args.kw_defaults, node.body]
        case ast.AnnAssign():
            parts = [node.target, node.value]
        case ast.ExceptHandler():
            parts = [*node.body]
        case _:
            parts = [*ast.iter_child_nodes(node)]
    for part in parts:
        if part is not None:
            yield from _uses_in(part)
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield node
