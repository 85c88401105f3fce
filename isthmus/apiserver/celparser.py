"""Expressions of the Common Expression Language, compiled once into closures over named values.

A recursive-descent parser of cel-spec's grammar. Invariant: what cannot be evaluated here (an unknown
function, a type without a value in `cel`, an escaped name) is refused when it is compiled, with its position.
Work is bounded: the length and depth of a text, and the steps of its macros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from isthmus.apiserver import cel
from isthmus.apiserver.cel import CelError, truth
from isthmus.errors import IsthmusError

Values = dict[str, Any]
Program = Callable[[Values], Any]

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<int>0[xX][0-9a-fA-F]+|\d+)(?![\w.])
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<raw>[rR](?:"[^"\n]*"|'[^'\n]*'))
    |(?P<name>[A-Za-z_]\w*)(?!["'])
    |(?P<symbol>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_PLAIN = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?",
}  # fmt: skip
_LITERALS = {"true": True, "false": False, "null": None}
_RELATIONS = ("==", "!=", "<=", ">=", "<", ">", "in")
_MACROS = ("all", "exists", "exists_one", "map", "filter")
_MAX_LENGTH = 16_384
_MAX_DEPTH = 32
_MAX_STEPS = 1_000_000


class CelSyntaxError(IsthmusError):
    """A text that is no expression, or one that asks for what is not supported."""


class Token(NamedTuple):
    """One lexical element; `position` counts characters from 1."""

    kind: str
    text: str
    position: int


class Compiled(NamedTuple):
    """A program and the free names it reads."""

    run: Program
    names: frozenset[str]


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Compiled:
    """The program of an expression; CelSyntaxError says what is wrong with the text, and where.

    `run` takes the values of free names; it raises CelError where the expression has no value.
    """
    parser = Parser(text)
    program = parser.whole()

    def run(values: Values) -> Any:
        try:
            return program({**values, _STEPS: [0]})
        except RecursionError:
            raise CelError("expression recursion limit exceeded") from None

    return Compiled(run, frozenset(parser.free))


_STEPS = ""  # no name is empty: the count of steps travels with the values


class Parser:
    """One pass over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0
        self._bound: list[str] = []
        self.free: set[str] = set()

    def whole(self) -> Program:
        program = self._expression()
        if self._next.kind != "end":
            raise self._wrong(f"unexpected '{self._next.text}'")
        return program

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _wrong(self, what: str, token: Token | None = None) -> CelSyntaxError:
        return CelSyntaxError(f"ERROR: <input>:1:{(token or self._next).position}: {what}")

    def _take(self, *symbols: str) -> str:
        """The next token if it is one of these symbols or words, else nothing."""
        token = self._next
        if token.kind in ("symbol", "name") and token.text in symbols:
            self._at += 1
            return token.text
        return ""

    def _want(self, symbol: str) -> None:
        if not self._take(symbol):
            raise self._wrong(f"Syntax error: expected '{symbol}' before '{self._next.text or '<EOF>'}'")

    def _name(self) -> str:
        token = self._next
        if token.kind != "name":
            raise self._wrong(f"Syntax error: expected a name before '{token.text or '<EOF>'}'")
        if token.text.startswith("__"):
            raise self._wrong(f"escaped names are not supported: {token.text}")
        self._at += 1
        return token.text

    def _expression(self) -> Program:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong("expression recursion limit exceeded")
        condition = self._or()
        if self._take("?"):
            yes = self._or()
            self._want(":")
            no = self._expression()
            chosen, otherwise, asked = yes, no, condition
            condition = lambda values: (chosen if truth(asked(values)) else otherwise)(values)  # noqa: E731
        self._depth -= 1
        return condition

    def _or(self) -> Program:
        parts = [self._and()]
        while self._take("||"):
            parts.append(self._and())
        return _absorbing(parts, wins=True)

    def _and(self) -> Program:
        parts = [self._binary(0)]
        while self._take("&&"):
            parts.append(self._binary(0))
        return _absorbing(parts, wins=False)

    def _binary(self, level: int) -> Program:
        levels = (_RELATIONS, ("+", "-"), ("*", "/", "%"))
        if level == len(levels):
            return self._unary()
        left = self._binary(level + 1)
        while symbol := self._take(*levels[level]):
            left = _applied(cel.BINARY[symbol], left, self._binary(level + 1))
        return left

    def _unary(self) -> Program:
        sign = self._take("!", "-")
        if not sign:
            return self._postfix()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._wrong("expression recursion limit exceeded")
        inner = self._unary()
        self._depth -= 1
        if sign == "!":
            return lambda values: not truth(inner(values))
        return lambda values: cel.negative(inner(values))

    def _postfix(self) -> Program:
        value = self._primary()
        while symbol := self._take(".", "["):
            if symbol == "[":
                value = _applied(cel.item, value, self._expression())
                self._want("]")
                continue
            token = self._next
            name = self._name()
            if self._take("("):
                value = self._macro(value, name) if name in _MACROS else self._method(value, name, token)
            else:
                value = _selected(value, name)
        return value

    def _method(self, value: Program, name: str, token: Token) -> Program:
        arguments = self._arguments(")")
        function = cel.METHODS.get((name, len(arguments)))
        if function is None:
            raise self._wrong(f"undeclared reference to '{name}'", token)
        return _applied(function, value, *arguments)

    def _macro(self, source: Program, macro: str) -> Program:
        name = self._name()
        self._want(",")
        self._bound.append(name)
        body = self._expression()
        kept: Program | None = None
        if macro == "map" and self._take(","):
            kept, body = body, self._expression()
        self._bound.pop()
        self._want(")")
        return _comprehension(macro, source, name, body, kept)

    def _arguments(self, end: str) -> list[Program]:
        found: list[Program] = []
        while not self._take(end):
            if found:
                self._want(",")
            found.append(self._expression())
        return found

    def _primary(self) -> Program:
        token = self._next
        if token.kind in ("int", "float", "string", "raw"):
            self._at += 1
            literal = self._literal(token)
            return lambda _: literal
        if self._take("("):
            inner = self._expression()
            self._want(")")
            return inner
        if self._take("["):
            parts = self._arguments("]")
            return lambda values: [part(values) for part in parts]
        name = self._name()
        if name in _LITERALS:
            value = _LITERALS[name]
            return lambda _: value
        if self._take("("):
            return self._has() if name == "has" else self._call(name, token)
        if name not in self._bound:
            self.free.add(name)
        return lambda values: values[name]

    def _call(self, name: str, token: Token) -> Program:
        arguments = self._arguments(")")
        function = cel.FUNCTIONS.get((name, len(arguments)))
        if function is None:
            raise self._wrong(f"undeclared reference to '{name}'", token)
        return _applied(function, *arguments)

    def _has(self) -> Program:
        """has(e.field): whether the field is there; the rest of the path must be."""
        token = self._next
        inner = self._expression()
        self._want(")")
        if not isinstance(inner, _Selection):
            raise self._wrong("invalid argument to has() macro", token)
        return inner.present

    def _literal(self, token: Token) -> Any:
        match token.kind:
            case "int":
                value = int(token.text, 0) if token.text[:2] in ("0x", "0X") else int(token.text)
                if value >= 1 << 63:
                    raise self._wrong("invalid int literal", token)
                return value
            case "float":
                return float(token.text)
            case "raw":
                return token.text[2:-1]
            case _:
                return _ESCAPE.sub(lambda found: self._escape(found, token), token.text[1:-1])

    def _escape(self, found: re.Match[str], token: Token) -> str:
        if code := found[1] or found[2] or found[3]:
            return chr(int(code, 16))
        if found[4] not in _PLAIN:
            raise self._wrong(f"invalid escape '{found[0]}'", token)
        return _PLAIN[found[4]]


class _Selection:
    """e.field, kept apart from other programs because has() asks about it without reading it."""

    def __init__(self, value: Program, name: str) -> None:
        self._value = value
        self._name = name

    def __call__(self, values: Values) -> Any:
        return cel.member(self._value(values), self._name)

    def present(self, values: Values) -> bool:
        found = self._value(values)
        if not isinstance(found, dict):
            raise CelError(f"type '{cel.kind(found)}' does not support field selection")
        return self._name in found


def _selected(value: Program, name: str) -> Program:
    return _Selection(value, name)


def _applied(function: Callable[..., Any], *arguments: Program) -> Program:
    return lambda values: function(*(argument(values) for argument in arguments))


def _absorbing(parts: list[Program], *, wins: bool) -> Program:
    """`||` and `&&`: a part that decides hides the errors of others, wherever it stands."""
    if len(parts) == 1:
        return parts[0]

    def run(values: Values) -> bool:
        error: CelError | None = None
        for part in parts:
            try:
                if truth(part(values)) is wins:
                    return wins
            except CelError as wrong:
                error = error or wrong
        if error is not None:
            raise error
        return not wins

    return run


def _comprehension(macro: str, source: Program, name: str, body: Program, kept: Program | None) -> Program:
    def each(values: Values) -> Iterator[tuple[Any, Program | None, Values]]:
        found = source(values)
        if not isinstance(found, (list, dict)):
            raise CelError(f"expression of type '{cel.kind(found)}' cannot be range of a comprehension")
        for part in found:
            values[_STEPS][0] += 1
            if values[_STEPS][0] > _MAX_STEPS:
                raise CelError("operation cancelled: actual cost limit exceeded")
            yield part, kept, {**values, name: part}

    def judged(values: Values, wanted: bool) -> bool:
        """Whether any part gives `wanted`; an error counts only where none does."""
        error: CelError | None = None
        for _, _, inner in each(values):
            try:
                if truth(body(inner)) is wanted:
                    return True
            except CelError as wrong:
                error = error or wrong
        if error is not None:
            raise error
        return False

    def run(values: Values) -> Any:
        match macro:
            case "all":
                return not judged(values, False)
            case "exists":
                return judged(values, True)
            case "exists_one":
                return sum(truth(body(inner)) for _, _, inner in each(values)) == 1
            case "filter":
                return [part for part, _, inner in each(values) if truth(body(inner))]
            case _:
                rows = (inner for _, keep, inner in each(values) if keep is None or truth(keep(inner)))
                return [body(inner) for inner in rows]

    return run


def _tokens(text: str) -> Iterator[Token]:
    if len(text) > _MAX_LENGTH:
        raise CelSyntaxError(f"an expression has at most {_MAX_LENGTH} characters")
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise CelSyntaxError(f"ERROR: <input>:1:{at + 1}: Syntax error: token recognition error")
        if found.lastgroup != "space":
            yield Token(found.lastgroup or "", found[0], at + 1)
        at = found.end()
    yield Token("end", "", len(text) + 1)
