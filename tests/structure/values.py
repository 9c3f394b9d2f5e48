"""What an expression may stand for: modules, classes, functions and instances of the classes of one package.

A value is an instance of each class of the package that its annotation names: of `Job` for `Job | None`, and
also for `dict[str, Job]` or `Awaitable[Job]`, so items, results and awaited values need no rules. A call
of a function outside the package stands for what its arguments stand for: `list(jobs)`, `replace(job, ...)`,
`create_task(work())`. A value whose class is a Protocol stands for each class of the package that has all its methods.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from structure.scopes import Assigned, Binding, Class, Function, FunctionNode, Imported, Index, Key, assigned


class Kind(Enum):
    """What a reference leads to."""

    MODULE = "module"
    CLASS = "class"
    FUNCTION = "function"
    INSTANCE = "instance"


@dataclass(frozen=True)
class Ref:
    """Something of the package. A module has a key without a name."""

    kind: Kind
    key: Key


Refs = frozenset[Ref]
NOTHING: Refs = frozenset()


@dataclass
class Scope:
    """Where an expression stands.

    Attributes:
        owner: The class whose method it stands in.
        names: Parameters and local variables.
    """

    module: str
    owner: Key | None = None
    names: dict[str, Refs] = field(default_factory=dict)


_CONTENT: dict[type[ast.expr], Callable[..., Iterable[ast.expr | None]]] = {
    ast.Await: lambda node: [node.value],
    ast.Starred: lambda node: [node.value],
    ast.NamedExpr: lambda node: [node.value],
    ast.Subscript: lambda node: [node.value],
    ast.IfExp: lambda node: [node.body, node.orelse],
    ast.BoolOp: lambda node: node.values,
    ast.BinOp: lambda node: [node.left, node.right],
    ast.Tuple: lambda node: node.elts,
    ast.List: lambda node: node.elts,
    ast.Set: lambda node: node.elts,
    ast.Dict: lambda node: node.values,
    ast.ListComp: lambda node: [node.elt],
    ast.SetComp: lambda node: [node.elt],
    ast.GeneratorExp: lambda node: [node.elt],
    ast.DictComp: lambda node: [node.value],
    ast.Lambda: lambda node: [node.body],
}
"""The parts that an expression stands for."""


class Values:
    """Finds what expressions stand for in one package."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._attributes: dict[Key, dict[str, Refs]] = {}
        self._open: set[tuple[str, str]] = set()

    def of(self, node: ast.expr | None, scope: Scope) -> Refs:
        """What an expression stands for; nothing if that is not of the package."""
        match node:
            case ast.Name(id=name):
                return scope.names[name] if name in scope.names else self._named(scope.module, name)
            case ast.Attribute(value=value, attr=name):
                return self.attribute(self.of(value, scope), name)
            case ast.Call(func=ast.Name(id="super")) if scope.owner is not None:
                return frozenset(Ref(Kind.INSTANCE, key) for key in self.index.lineage(scope.owner)[1:])
            case ast.Call():
                return self._called(node, scope)
            case ast.expr():
                content = _CONTENT.get(type(node))
                return _union(self.of(part, scope) for part in content(node)) if content is not None else NOTHING
        return NOTHING

    def annotated(self, annotation: ast.expr | None, module: str, owner: Key | None = None) -> Refs:
        """Instances of all classes of the package that an annotation names."""
        found: set[Ref] = set()
        for node in ast.walk(annotation) if annotation is not None else ():
            match node:
                case ast.Constant(value=str(text)):
                    found |= self.annotated(_parsed(text), module, owner)
                case ast.Name(id="Self") if owner is not None:
                    found.add(Ref(Kind.INSTANCE, owner))
                case ast.Name() | ast.Attribute():
                    found |= {Ref(Kind.INSTANCE, r.key) for r in self.of(node, Scope(module)) if r.kind is Kind.CLASS}
        return frozenset(found)

    def attribute(self, refs: Refs, name: str) -> Refs:
        """What an attribute of a value stands for."""
        return _union(self._member(ref, name) for ref in refs)

    def _member(self, ref: Ref, name: str) -> Refs:
        match ref.kind:
            case Kind.MODULE:
                return self._named(ref.key[0], name)
            case Kind.FUNCTION:
                return NOTHING
        return _union(self._inherited(key, name) for key in self.index.implementers(ref.key))

    def items(self, refs: Refs) -> Refs:
        """What the items of a value stand for: what its `__iter__` returns, otherwise the same as the value."""
        return _union(self._items(ref) for ref in refs)

    def parameters(self, function: Function) -> Scope:
        """The scope in which a function begins."""
        module, owner = function.key[0], function.owner
        scope = Scope(module, owner)
        for argument in arguments(function.node):
            scope.names[argument.arg] = self.annotated(argument.annotation, module, owner)
        first = next(arguments(function.node), None)
        if owner is not None and first is not None and "staticmethod" not in function.decorators:
            kind = Kind.CLASS if "classmethod" in function.decorators else Kind.INSTANCE
            scope.names[first.arg] = frozenset({Ref(kind, owner)})
        return scope

    def _items(self, ref: Ref) -> Refs:
        if ref.kind is not Kind.INSTANCE or "__iter__" not in self.index.methods(ref.key):
            return frozenset({ref})
        return _union(self._result(way) for way in self._member(ref, "__iter__"))

    def _named(self, module: str, name: str) -> Refs:
        """What a name at the top of a module stands for."""
        found = self.index.resolve(module, name)
        if found is None or (module, name) in self._open:
            return NOTHING
        self._open.add((module, name))
        try:
            return self._bound(found[1], found[0])
        finally:
            self._open.discard((module, name))

    def _bound(self, binding: Binding, module: str) -> Refs:
        match binding:
            case Class():
                return frozenset({Ref(Kind.CLASS, binding.key)})
            case Function():
                return frozenset({Ref(Kind.FUNCTION, binding.key)})
            case Imported():
                return frozenset({Ref(Kind.MODULE, (binding.module, ""))})
            case Assigned():
                return self.annotated(binding.annotation, module) | self.of(binding.value, Scope(module))

    def _called(self, call: ast.Call, scope: Scope) -> Refs:
        if callees := self.of(call.func, scope):
            return _union(self._result(ref) for ref in callees)
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        return _union(self._result(ref) for value in values for ref in self.of(value, scope))

    def _result(self, ref: Ref) -> Refs:
        match ref.kind:
            case Kind.FUNCTION:
                function = self.index.functions[ref.key]
                return self.annotated(function.node.returns, ref.key[0], function.owner)
            case Kind.MODULE:
                return NOTHING
        return frozenset({Ref(Kind.INSTANCE, ref.key)})

    def _inherited(self, key: Key, name: str) -> Refs:
        for one in self.index.lineage(key):
            method = self.index.classes[one].methods.get(name)
            if method is not None:
                ref = Ref(Kind.FUNCTION, method)
                return self._result(ref) if self.index.functions[method].is_property else frozenset({ref})
            if name in (attributes := self._attributes_of(one)):
                return attributes[name]
        # A method of the container that the annotation names, or of a base outside the package.
        return frozenset({Ref(Kind.INSTANCE, key)})

    def _attributes_of(self, key: Key) -> dict[str, Refs]:
        if key in self._attributes:
            return self._attributes[key]
        found = self._attributes[key] = {}
        declared = self.index.classes[key]
        for statement in declared.node.body:
            for name, value in assigned(statement):
                found[name] = self._bound(value, key[0])
        for method in declared.methods.values():
            function = self.index.functions[method]
            for name, value in _own(function.node):
                refs = self.annotated(value.annotation, key[0], key) | self.of(value.value, self.parameters(function))
                found[name] = found.get(name, NOTHING) | refs
        return found


def arguments(node: FunctionNode | ast.Lambda) -> Iterator[ast.arg]:
    """All parameters, in their order."""
    given = node.args
    yield from (*given.posonlyargs, *given.args, *given.kwonlyargs)
    yield from (one for one in (given.vararg, given.kwarg) if one is not None)


def _own(function: FunctionNode) -> Iterator[tuple[str, Assigned]]:
    """The attributes that a method sets on its own instance."""
    for node in ast.walk(function):
        match node:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=annotation):
                yield name, Assigned(annotation=annotation)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if (
                            isinstance(one, ast.Attribute)
                            and isinstance(one.value, ast.Name)
                            and one.value.id == "self"
                        ):
                            yield one.attr, Assigned(value=value)


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _union(sets: Iterable[Refs]) -> Refs:
    return frozenset().union(*sets)
