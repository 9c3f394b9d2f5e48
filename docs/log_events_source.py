"""Finds every call that writes a log event, in the source: component, name, levels and fields."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = tuple(ROOT / folder / "src" for folder in ("schemas", "relay", "bridge", "edge_worker"))
LEVELS = ("debug", "info", "warning", "error")
"""In the order of the page."""
TRACEBACK = "exception"
"""The field that holds a traceback."""

_LEVEL_OF_METHOD = {**{level: level for level in LEVELS}, "exception": "error"}
_LEVEL_OF_NUMBER = {10: "debug", 20: "info", 30: "warning", 40: "error"}
_LOGGERS = frozenset({"log", "_log"})
"""The names of the loggers in all modules."""
_BINDERS = frozenset({"bind_contextvars", "bound_contextvars", "bound"})

# The longest prefix of a module decides which component logs from there.
_COMPONENTS = {
    "edge_relay": "relay",
    "edge_bridge.keeper": "keeper",
    "edge_bridge.executor": "executor",
    "edge_bridge.logs": "log_reader",
    "edge_bridge.page": "page",
    "edge_bridge.bundles": "dag_processor",
    "edge_bridge.portal": "bridge",
    "edge_worker": "worker_agent",
    "edge_worker.task_host": "task_host",
    "edge_broker": "nats_client",
    "edge_service": "service",
    "edge_upkeep": "upkeep",
}


class SourceError(Exception):
    """A call that can't be documented; the text names the place and the reason."""


@dataclass(frozen=True)
class LogCall:
    """One call of a logger.

    Attributes:
        component: Key of the component that logs.
        name: Of the event; in the task host a sentence.
        levels: One level, or several if the level is chosen at run time.
        fields: The fields that the source names.
        is_open: There are more fields, which are known only at run time.
        place: Module and line, for messages.
    """

    component: str
    name: str
    levels: frozenset[str]
    fields: frozenset[str]
    is_open: bool
    place: str


@dataclass(frozen=True)
class Bound:
    """Fields that are added to each event that a component logs while they are bound."""

    component: str
    fields: frozenset[str]


def log_calls(sources: Sequence[Path] = SOURCES) -> Iterator[LogCall]:
    """Every call that logs.

    Raises:
        SourceError: The name or the level of an event can't be read from the source.
    """
    for module in _modules(sources):
        yield from module.log_calls()


def bound_fields(sources: Sequence[Path] = SOURCES) -> Iterator[Bound]:
    """Every call that binds fields."""
    for module in _modules(sources):
        yield from module.bound_fields()


def _modules(sources: Sequence[Path]) -> Iterator["_Module"]:
    for source in sources:
        for path in sorted(source.rglob("*.py")):
            name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
            yield _Module(name, ast.parse(path.read_text(encoding="utf-8")))


class _Module:
    """One parsed module."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self._name = name
        self._tree = tree

    def log_calls(self) -> Iterator[LogCall]:
        for scope in self._scopes():
            for call in _own_calls(scope):
                if method := _log_method(call):
                    yield from self._log_calls_of(call, method, scope)

    def bound_fields(self) -> Iterator[Bound]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and _last_name(node.func) in _BINDERS:
                fields = frozenset(word.arg for word in node.keywords if word.arg)
                yield Bound(self._component(), fields)

    def _log_calls_of(self, call: ast.Call, method: str, scope: ast.AST) -> Iterator[LogCall]:
        if method == "log":
            levels, texts = list(self._levels(call.args[0], scope)), call.args[1:]
        else:
            levels, texts = [_LEVEL_OF_METHOD[method]], call.args
        names = list(_strings(texts[0])) if texts else []
        if not names or not levels:
            raise SourceError(f"{self._place(call)}: name and level of an event must be constants")
        fields, is_open = self._fields(call, scope)
        if method == "exception":
            fields.add(TRACEBACK)
        for name in names:
            yield LogCall(
                self._component(), name, frozenset(levels), frozenset(fields), is_open, place=self._place(call)
            )

    def _levels(self, node: ast.expr, scope: ast.AST) -> Iterator[str]:
        """The levels that an expression may have as its value: numbers, or names as in `logging`."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value in _LEVEL_OF_NUMBER:
            yield _LEVEL_OF_NUMBER[node.value]
        elif isinstance(node, ast.Name | ast.Attribute) and _last_name(node).lower() in LEVELS:
            yield _last_name(node).lower()
        for part in self._values(node, scope):
            yield from self._levels(part, scope)

    def _values(self, node: ast.expr, scope: ast.AST) -> Iterator[ast.expr]:
        """The expressions that may be the value of this expression."""
        if isinstance(node, ast.IfExp):
            yield from (node.body, node.orelse)
        elif isinstance(node, ast.Name):
            yield from _assigned(scope, node.id)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            for table in _assigned(self._tree, node.value.id):
                yield from table.values if isinstance(table, ast.Dict) else ()

    def _fields(self, call: ast.Call, scope: ast.AST) -> tuple[set[str], bool]:
        fields: set[str] = set()
        is_open = False
        for word in call.keywords:
            if word.arg == "exc_info":
                fields.add(TRACEBACK)
            elif word.arg == "extra" or word.arg is None:
                keys = self._keys(word.value, scope)
                is_open |= keys is None
                fields |= keys or set()
            else:
                fields.add(word.arg)
        return fields, is_open

    def _keys(self, node: ast.expr, scope: ast.AST) -> set[str] | None:
        """The keys of a mapping: a literal, a variable of this function or the result of a function of this module."""
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            return set(keys) if len(keys) == len(node.keys) else None
        if isinstance(node, ast.IfExp):
            return self._all_keys([node.body, node.orelse], scope)
        if isinstance(node, ast.Name):
            found = self._all_keys(_assigned(scope, node.id), scope)
            return None if found is None else found | set(_items_set(scope, node.id))
        if isinstance(node, ast.Call):
            functions = [f for f in self._functions() if f.name == _last_name(node.func)]
            results = [part.value for f in functions for part in ast.walk(f) if isinstance(part, ast.Return)]
            return self._all_keys([result for result in results if result is not None], self._tree)
        return None

    def _all_keys(self, nodes: Sequence[ast.expr], scope: ast.AST) -> set[str] | None:
        found = [self._keys(node, scope) for node in nodes]
        known = [keys for keys in found if keys is not None]
        return set().union(*known) if known and len(known) == len(found) else None

    def _scopes(self) -> Iterator[ast.AST]:
        yield self._tree
        yield from self._functions()

    def _functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def _component(self) -> str:
        parents = [prefix for prefix in _COMPONENTS if f"{self._name}.".startswith(f"{prefix}.")]
        if not parents:
            raise SourceError(f"{self._name}: no component is set for this module; see docs/log_events_source.py")
        return _COMPONENTS[max(parents, key=len)]

    def _place(self, node: ast.expr) -> str:
        return f"{self._name}:{node.lineno}"


def _log_method(call: ast.Call) -> str | None:
    """The method, if this is a call of the module's logger."""
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return None
    is_log = function.value.id in _LOGGERS and (function.attr in _LEVEL_OF_METHOD or function.attr == "log")
    return function.attr if is_log else None


def _own_calls(scope: ast.AST) -> Iterator[ast.Call]:
    """The calls in a function or module, without those in the functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _own_calls(child)


def _assigned(scope: ast.AST, name: str) -> list[ast.expr]:
    """The expressions that are assigned to a variable."""
    found: list[ast.expr] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            found.append(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            found += [node.value] if node.value is not None else []
    return found


def _items_set(scope: ast.AST, name: str) -> Iterator[str]:
    """The constant keys of `name[key] = ...`."""
    for node in ast.walk(scope):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Subscript) and _last_name(target.value) == name:
                yield from _strings(target.slice)


def _strings(node: ast.expr) -> Iterator[str]:
    """The texts of a constant, or of a choice between constants."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body)
        yield from _strings(node.orelse)


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
