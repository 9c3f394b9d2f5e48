"""What the local variables of a function stand for."""

import ast
from collections.abc import Iterator

from structure.scopes import Function, FunctionNode
from structure.values import NOTHING, Refs, Scope, Values, arguments

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def local_scope(values: Values, function: Function) -> Scope:
    """Parameters and local variables of a function. A variable stands for all values assigned to it."""
    scope = values.parameters(function)
    for node in _in_order(function.node):
        if isinstance(node, _FUNCTIONS):
            _add_inner(values, node, function.node, scope)
        elif isinstance(node, ast.ExceptHandler) and node.name is not None:
            _add(scope, node.name, values.annotated(node.type, scope.module))
        elif isinstance(node, ast.Match):
            for case in node.cases:
                _bind_pattern(values, scope, case.pattern, values.of(node.subject, scope))
        else:
            for target, refs in _assigned(values, scope, node):
                _bind(scope, target, refs)
    return scope


def _assigned(values: Values, scope: Scope, node: ast.AST) -> Iterator[tuple[ast.expr, Refs]]:
    """The targets of a node, each with what the node assigns to it."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, values.of(value, scope)) for target in targets)
        case ast.AnnAssign(target=target, annotation=annotation):
            yield target, values.annotated(annotation, scope.module, scope.owner)
        case ast.NamedExpr(target=target, value=value):
            yield target, values.of(value, scope)
        case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
            yield target, values.items(values.of(value, scope))
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            # Before the element, which may contain another one.
            yield from ((part.target, values.items(values.of(part.iter, scope))) for part in node.generators)
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            yield target, values.of(value, scope)


def _add_inner(values: Values, node: FunctionNode | ast.Lambda, outer: FunctionNode, scope: Scope) -> None:
    if node is outer:
        return
    for argument in arguments(node):
        _add(scope, argument.arg, values.annotated(argument.annotation, scope.module, scope.owner))
    if not isinstance(node, ast.Lambda):
        # Its body already counts where it is defined.
        _add(scope, node.name, NOTHING)


def _add(scope: Scope, name: str, refs: Refs) -> None:
    scope.names[name] = scope.names.get(name, NOTHING) | refs


def _bind(scope: Scope, target: ast.expr, refs: Refs) -> None:
    match target:
        case ast.Name(id=name):
            _add(scope, name, refs)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                _bind(scope, part, refs)
        case ast.Starred(value=part):
            _bind(scope, part, refs)


def _bind_pattern(values: Values, scope: Scope, pattern: ast.pattern, refs: Refs) -> None:
    match pattern:
        case ast.MatchAs(pattern=inner, name=name):
            if isinstance(inner, ast.MatchClass):
                refs = values.annotated(inner.cls, scope.module)
            if inner is not None:
                _bind_pattern(values, scope, inner, refs)
            if name is not None:
                _add(scope, name, refs)
        case ast.MatchClass(cls=matched, kwd_attrs=names, kwd_patterns=patterns):
            instances = values.annotated(matched, scope.module)
            for name, inner in zip(names, patterns, strict=True):
                _bind_pattern(values, scope, inner, values.attribute(instances, name))
        case ast.MatchOr(patterns=patterns) | ast.MatchSequence(patterns=patterns):
            for inner in patterns:
                _bind_pattern(values, scope, inner, refs)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
