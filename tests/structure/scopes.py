"""The classes, functions and names of one package, as its syntax trees declare them."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from structure.sources import Module

Key = tuple[str, str]
"""A module and a dotted name in it."""
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Class:
    """A class at the top of a module.

    Attributes:
        methods: The keys of its own methods, by their names.
    """

    key: Key
    node: ast.ClassDef
    methods: Mapping[str, Key]

    @property
    def is_protocol(self) -> bool:
        """Whether it inherits from `Protocol` directly."""
        heads = [base.value if isinstance(base, ast.Subscript) else base for base in self.node.bases]
        return any(isinstance(head, ast.Name) and head.id == "Protocol" for head in heads)


@dataclass(frozen=True)
class Function:
    """A function at the top of a module, or a method.

    Attributes:
        owner: The class of a method.
    """

    key: Key
    node: FunctionNode
    owner: Key | None

    @property
    def decorators(self) -> set[str]:
        """The last name of each decorator."""
        return {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in self.node.decorator_list
            if isinstance(node, ast.Attribute | ast.Name)
        }

    @property
    def is_property(self) -> bool:
        """Whether reading an attribute runs it."""
        return bool(self.decorators & {"property", "cached_property"})


@dataclass(frozen=True)
class Imported:
    """A name that comes from another module; without a name the module itself."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Assigned:
    """A name at the top of a module that is bound to a value, or declared with an annotation."""

    value: ast.expr | None = None
    annotation: ast.expr | None = None


Binding = Class | Function | Imported | Assigned


@dataclass
class Index:
    """What the modules of a package declare."""

    modules: dict[str, dict[str, Binding]] = field(default_factory=dict)
    classes: dict[Key, Class] = field(default_factory=dict)
    functions: dict[Key, Function] = field(default_factory=dict)

    def resolve(self, module: str, name: str) -> tuple[str, Binding] | None:
        """What a name at the top of a module is, and where; imports inside the package are followed."""
        seen = set()
        while (module, name) not in seen:
            seen.add((module, name))
            binding = self.modules.get(module, {}).get(name)
            if binding is None:
                binding = Imported(f"{module}.{name}")
            if not isinstance(binding, Imported):
                return module, binding
            if not binding.name:
                return (module, binding) if binding.module in self.modules else None
            module, name = binding.module, binding.name
        return None

    def lineage(self, key: Key) -> list[Key]:
        """A class and its bases inside the package, the nearest first."""
        found = [key]
        for base in self.classes[key].node.bases:
            head = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(head, ast.Name) and (target := self.resolve(key[0], head.id)) is not None:
                binding = target[1]
                if isinstance(binding, Class):
                    found += [one for one in self.lineage(binding.key) if one not in found]
        return found

    def methods(self, key: Key) -> set[str]:
        """The names of a class's methods, with inherited ones."""
        return {name for one in self.lineage(key) for name in self.classes[one].methods}

    def implementers(self, key: Key) -> list[Key]:
        """For a Protocol the classes that have all its methods, if there are any; otherwise the class itself."""
        if not self.classes[key].is_protocol:
            return [key]
        wanted = self.methods(key)
        able = [other for other, one in self.classes.items() if not one.is_protocol and wanted <= self.methods(other)]
        return able or [key]


def index(modules: Sequence[Module]) -> Index:
    """Read the declarations of all modules of a package. Imports count wherever they stand in a module."""
    found = Index()
    for module in modules:
        if module.file.stem == "__main__":
            continue
        names: dict[str, Binding] = dict(_imports(module.tree))
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names[node.name] = _function(found, module.name, node)
            elif isinstance(node, ast.ClassDef):
                names[node.name] = _class(found, module.name, node)
            else:
                names.update(assigned(node))
        found.modules[module.name] = names
    return found


def assigned(node: ast.stmt) -> Iterator[tuple[str, Assigned]]:
    """The names that a statement binds to a value or declares."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
            yield name, Assigned(annotation=annotation)
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, Assigned(value=value)


def _imports(tree: ast.Module) -> Iterator[tuple[str, Imported]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, Imported(node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    yield alias.asname, Imported(alias.name)


def _function(found: Index, module: str, node: FunctionNode, owner: Key | None = None) -> Function:
    key = (module, f"{owner[1]}.{node.name}" if owner else node.name)
    # A property and its setter have one name; the first is the one that returns the value.
    return found.functions.setdefault(key, Function(key, node, owner))


def _class(found: Index, module: str, node: ast.ClassDef) -> Class:
    key = (module, node.name)
    methods = {
        inner.name: _function(found, module, inner, key).key
        for inner in node.body
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found.classes[key] = Class(key, node, methods)
    return found.classes[key]
