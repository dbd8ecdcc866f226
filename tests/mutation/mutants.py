"""Mutants of a module: copies with one small fault.

Each mutant replaces one piece of the source by another.
Everything else, line numbers included, stays the same.
Annotations, docstrings, prose (strings with spaces), f-strings and the arguments of decorators are
not mutated: a change to them is either without effect or a matter of wording.
"""

import ast
import bisect
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_OPERATIONS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "*"),
    ast.BitOr: (r"\|", "&"),
    ast.BitAnd: ("&", "|"),
}
# Fields of the syntax tree, and generic types, that hold nothing but types.
_WITHOUT_EFFECT = {"annotation", "returns", "decorator_list", "bases"}
_GENERICS = {
    "Callable",
    "Iterable",
    "Iterator",
    "Literal",
    "Mapping",
    "Sequence",
    "dict",
    "list",
    "tuple",
}


@dataclass(frozen=True)
class Mutant:
    """One changed piece of a module.

    Names and source lines identify it in reports, as they outlive line numbers.
    """

    file: str
    line: int
    # Qualified name of the enclosing function or class, or "" at module level.
    function: str
    # The affected source, joined to one line, before and after the change.
    before: str
    after: str
    # The source of the complete module with the change.
    source: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return an identity that does not depend on line numbers."""
        return self.file, self.function, self.before, self.after


class Mutants:
    """The mutants of one module, by line. `at` makes and compiles those of a line."""

    def __init__(self, file: str, source: str) -> None:
        self._module = _Module(file, source)
        self._edits: dict[int, list[Edit]] = {}
        for edit in _edits(self._module):
            self._edits.setdefault(self._module.line(edit[0]), []).append(edit)

    @property
    def lines(self) -> list[int]:
        """Return the numbers of the lines that have candidates, in ascending order."""
        return sorted(self._edits)

    def at(self, line: int) -> list[Mutant]:
        """Return the mutants of a line that compile and change the module, in a fixed order."""
        found = {self._module.mutant(*edit) for edit in self._edits.get(line, ())}
        return sorted(
            (mutant for mutant in found if mutant),
            key=lambda mutant: (mutant.identity, mutant.source),
        )


# A position and a length in bytes, the replacement, and the name of the function around it.
Edit = tuple[int, int, str, str]


class _Module:
    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.bytes = source.encode()
        self.tree = ast.parse(source)
        self._dump = ast.dump(self.tree)
        lines = self.bytes.splitlines(keepends=True)
        self._line_starts = [0]
        for line in lines:
            self._line_starts.append(self._line_starts[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._line_starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._line_starts[node.end_lineno - 1] + node.end_col_offset

    def line(self, position: int) -> int:
        return bisect.bisect_right(self._line_starts, position)

    def mutant(self, start: int, length: int, replacement: str, function: str) -> Mutant | None:
        """Return the mutant, or None where the result does not parse or means the same."""
        end = start + length
        source = (self.bytes[:start] + replacement.encode() + self.bytes[end:]).decode()
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(source, self.file, "exec")
            changed = ast.dump(ast.parse(source)) != self._dump
        except SyntaxError:
            return None
        if not changed:
            return None
        first = self.bytes.rfind(b"\n", 0, start) + 1
        last = self.bytes.find(b"\n", end)
        last = len(self.bytes) if last < 0 else last
        before = self.bytes[first:last].decode()
        after = f"{self.bytes[first:start].decode()}{replacement}{self.bytes[end:last].decode()}"
        return Mutant(
            self.file, self.line(start), function, _one_line(before), _one_line(after), source
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _edits(module: _Module) -> Iterator[Edit]:
    stack: list[tuple[ast.AST, str]] = [(module.tree, "")]
    while stack:
        node, function = stack.pop()
        for start, end, replacement in _edits_of(module, node):
            yield start, end - start, replacement, function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
        stack += [(child, function) for child in _children(node)]


def _children(node: ast.AST) -> Iterator[ast.AST]:
    skipped = _skipped_fields(node)
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield child


def _skipped_fields(node: ast.AST) -> set[str]:
    """Return the fields of a node that hold only types, names that are exported, or a docstring."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return {"value"}
        case ast.Subscript(value=ast.Name(id=name)) if name in _GENERICS:
            return {"slice"}
    return _WITHOUT_EFFECT


# Start position, end position, and the replacement of the text between them.
Replacements = Iterator[tuple[int, int, str]]


def _edits_of(module: _Module, node: ast.AST) -> Replacements:
    edit = _EDITS.get(type(node))
    return edit(module, node) if edit else iter(())


def _compare(module: _Module, node: ast.Compare) -> Replacements:
    operands = [node.left, *node.comparators]
    for left, right, operator in zip(operands, node.comparators, node.ops, strict=False):
        yield from _operator(module, left, right, _COMPARISONS[type(operator)])


def _binary(module: _Module, node: ast.BinOp) -> Replacements:
    yield from _operator(module, node.left, node.right, _OPERATIONS.get(type(node.op)))


def _operator(
    module: _Module, left: ast.expr, right: ast.expr, change: tuple[str, str] | None
) -> Replacements:
    """Replace the operator between two operands. Only parentheses and spaces are beside it."""
    if change is None:
        return
    pattern, replacement = change
    start = module.end(left)
    between = module.bytes[start : module.start(right)].decode()
    found = re.search(pattern, between)
    if found:
        yield start + found.start(), start + found.end(), replacement


def _bool(module: _Module, node: ast.BoolOp) -> Replacements:
    """Exchange each `and` and `or`, and leave out each operand."""
    word, other, neutral = (
        ("and", "or", "True") if isinstance(node.op, ast.And) else ("or", "and", "False")
    )
    for left, right in zip(node.values, node.values[1:], strict=False):
        yield from _operator(module, left, right, (word, other))
    for operand in node.values:
        yield module.start(operand), module.end(operand), neutral


def _unary(module: _Module, node: ast.UnaryOp) -> Replacements:
    if isinstance(node.op, ast.Not | ast.USub):
        yield module.start(node), module.start(node.operand), ""


def _if(module: _Module, node: ast.If | ast.IfExp) -> Replacements:
    yield from _condition(module, node.test)


def _comprehension(module: _Module, node: ast.comprehension) -> Replacements:
    for test in node.ifs:
        yield from _condition(module, test)


def _condition(module: _Module, test: ast.expr) -> Replacements:
    for value in ("True", "False"):
        yield module.start(test), module.end(test), value


def _break(module: _Module, node: ast.Break) -> Replacements:
    yield module.start(node), module.end(node), "continue"


def _continue(module: _Module, node: ast.Continue) -> Replacements:
    yield module.start(node), module.end(node), "break"


def _return(module: _Module, node: ast.Return) -> Replacements:
    if node.value is not None:
        yield module.start(node.value), module.end(node.value), "None"


def _constant(module: _Module, node: ast.Constant) -> Replacements:
    start, end = module.start(node), module.end(node)
    match node.value:
        case bool():
            yield start, end, str(not node.value)
        case int() | float():
            yield start, end, f"{node.value + 1}"
        case str() | bytes() if node.value and len(node.value.split()) == 1:
            yield start, end, repr(node.value[:0])
        case "" | b"":
            yield start, end, repr("X" if isinstance(node.value, str) else b"X")


def _elements(module: _Module, node: ast.Set | ast.List | ast.Tuple) -> Replacements:
    """Leave out one of several elements. Targets of assignments are no values."""
    if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or len(node.elts) < 2:
        return
    for element in node.elts:
        yield _without(module, module.start(element), module.end(element))


def _entries(module: _Module, node: ast.Dict) -> Replacements:
    for key, value in zip(node.keys, node.values, strict=True):
        if key is not None:
            yield _without(module, module.start(key), module.end(value))


def _keywords(module: _Module, node: ast.Call) -> Replacements:
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield _without(module, module.start(keyword), module.end(keyword))


def _without(module: _Module, start: int, end: int) -> tuple[int, int, str]:
    """Leave out a member of a list together with the comma behind it.

    At the end of the list, leave out the comma before it.
    """
    behind = re.compile(rb"\s*,[ ]?").match(module.bytes, end)
    if behind:
        return start, behind.end(), ""
    return len(module.bytes[:start].rstrip().removesuffix(b",")), end, ""


def _statement(module: _Module, node: ast.stmt) -> Replacements:
    if isinstance(node, ast.Expr) and isinstance(
        node.value, ast.Constant | ast.Yield | ast.YieldFrom
    ):
        return
    if isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) for target in node.targets
    ):
        # Most uses of the name would fail at once.
        return
    yield module.start(node), module.end(node), "pass"


_EDITS: dict[type[ast.AST], Callable[[_Module, Any], Replacements]] = {
    ast.Compare: _compare,
    ast.BinOp: _binary,
    ast.BoolOp: _bool,
    ast.UnaryOp: _unary,
    ast.If: _if,
    ast.IfExp: _if,
    ast.comprehension: _comprehension,
    ast.Constant: _constant,
    ast.Set: _elements,
    ast.List: _elements,
    ast.Tuple: _elements,
    ast.Dict: _entries,
    ast.Call: _keywords,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.Return: _return,
    ast.Expr: _statement,
    ast.Assign: _statement,
    ast.AugAssign: _statement,
    ast.Raise: _statement,
    ast.Delete: _statement,
}
