"""What a gate of one's own means, as a digest: its rules run on symbols, and what they write down is hashed.

In: a gate, its number of operands and its parameters. Out: a sha256 that is the same on every machine and in every
process as long as `constants` and `step` ask for the same arithmetic with the same numbers, and another as soon as one
number differs, wherever the rules take it from: a closure, a global, a default argument, a helper function. It is what
kernels are emitted from, so two gates of one digest compute alike, bit for bit. A gate of the package needs none: its
name and the package's version say what it means. A vjp has no part in it, since a circuit has what a vjp wrote among
its nodes; neither has the place of the definition.
"""

from __future__ import annotations

import hashlib
import operator
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from circuitsketch.errors import InputError
from circuitsketch.gates.gate import Gate, is_built_in, register

ORDERS = 8  # coefficients written out one by one; beyond, kernels loop over k, which is a symbol then
Use = tuple[int, str]  # how many operands, which parameters
# What a gate meant when it was first traced, and its later versions by what they mean.
traced: WeakKeyDictionary[Gate, dict[Use, str]] = WeakKeyDictionary()
versions: WeakKeyDictionary[Gate, dict[tuple[Use, str], Gate]] = WeakKeyDictionary()
unknown: WeakKeyDictionary[Gate, str] = WeakKeyDictionary()  # the digests of gates whose rules do not run on symbols


class Page:
    """The operations that rules ask for, in order, each a tuple of texts."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []

    def write(self, what: str, *operands: Any) -> Symbol:
        """One operation more; returns its result."""
        self.lines.append((what, *map(text_of, operands)))
        return Symbol(self, f"%{len(self.lines)}")


class Symbol:
    """A number that is not known: arithmetic on it is written down."""

    __slots__ = ("name", "page")
    __array_ufunc__ = None  # NumPy's numbers leave their arithmetic with a symbol to the symbol

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name

    def __neg__(self) -> Symbol:
        return self.page.write("-", self)


def binary(sign: str, mirrored: bool) -> Callable[[Symbol, Any], Symbol]:
    """An operator of two numbers, or its mirror image, whose symbol is the right operand."""
    if mirrored:
        return lambda symbol, other: symbol.page.write(sign, other, symbol)
    return lambda symbol, other: symbol.page.write(sign, symbol, other)


for label, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("pow", "**")):
    setattr(Symbol, f"__{label}__", binary(sign, False))
    setattr(Symbol, f"__r{label}__", binary(sign, True))


def text_of(operand: Any) -> str:
    """A symbol's name, or a plain number exactly."""
    return operand.name if isinstance(operand, Symbol) else float(operand).hex()


class SymbolMath:
    """The elementary functions that `constants` may call."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        return lambda *operands: self.page.write(name, *operands)


class SymbolSeries:
    """A series: coefficient 0 and, of operands, all others are symbols; those of results are written."""

    def __init__(self, page: Page, name: str, is_result: bool) -> None:
        self.page = page
        self.name = name
        self.known: dict[int, Any] = {0: Symbol(page, f"{name}[0]")}
        if not is_result:
            self.known |= {k: Symbol(page, f"{name}[{k}]") for k in range(1, ORDERS + 1)}

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, Symbol):
            return self.page.write("read", Symbol(self.page, self.name), k)
        return self.known[k] if k in self.known else Symbol(self.page, "zero")

    def __setitem__(self, k: Any, value: Any) -> None:
        self.page.write("set", Symbol(self.page, self.name), k, value)
        if not isinstance(k, Symbol):
            self.known[operator.index(k)] = value


class SymbolOps:
    """What `step` may call."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.zero = Symbol(page, "zero")

    def choose(self, test: Any, x: Any, y: Any) -> Symbol:
        """One of two numbers."""
        return self.page.write("choose", test, x, y)

    def convolve(
        self, k: Any, u: Any, v: Any, weight: Callable[[Any], Any] | None = None, low: int = 0, high: int = 0
    ) -> Symbol:
        """sum_{j=low..k-high} weight(j) u_j v_{k-j}."""
        if isinstance(k, Symbol):
            factor = 1.0 if weight is None else weight(Symbol(self.page, "j"))
            names = (Symbol(self.page, series.name) for series in (u, v))
            return self.page.write("convolve", k, *names, factor, low, high)
        terms: list[Any] = []
        for j in range(low, k - high + 1):
            terms += [1.0 if weight is None else weight(j), u[j], v[k - j]]
        return self.page.write("convolve", *terms)


def meaning(gate: Gate, count: int, params: Mapping[str, Any]) -> str:
    """The digest of what a gate means now, on so many operands and with these parameters.

    Where the rules do not run on symbols (they ask for a number's value, say, as no kernel can), it is a random one: a
    stored sketch with such a gate is never taken for another process's own.
    """
    facts = (gate.kind, gate.arity, gate.reads, gate.domain, gate.flat, gate.companions, gate.result, gate.static)
    try:
        written = record(gate, count, params)
    except Exception:  # whatever a user's rule raises on what is no number
        return unknown.setdefault(gate, secrets.token_hex(32))
    return hashlib.sha256(repr((facts, count, use_of(count, params), written)).encode()).hexdigest()


def record(gate: Gate, count: int, params: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What a gate's rules ask for: the constant terms, coefficients 1, 2, ... one by one, and coefficient k."""
    page = Page()
    operands = [Symbol(page, f"x{i}") for i in range(count)]
    if gate.constants is not None:
        page.write("constants", *gate.constants(SymbolMath(page), *operands, **params))
    if gate.step is None:
        return page.lines
    every: Sequence[Any] = range(1, ORDERS + 1)
    for orders in (every, [Symbol(page, "k")]):
        series = [SymbolSeries(page, f"u{i}", False) for i in range(count)]
        results = [SymbolSeries(page, f"v{i}", True) for i in range(1 + gate.companions)]
        begin = len(page.lines)
        try:
            for k in orders:
                gate.step(k, SymbolOps(page), *series, *results, **params)
        except Exception:
            if orders is every:
                raise
            page.lines[begin:] = [("no high orders",)]  # it reads u[1], say; kernels of high order refuse it too
    return page.lines


def use_of(count: int, params: Mapping[str, Any]) -> Use:
    """How a gate is used. The parameters as text, because -0.0 equals 0.0, and 1 equals True."""
    return count, repr(sorted(params.items()))


def current(gate: Gate, count: int, params: Mapping[str, Any]) -> Gate:
    """The gate to trace: itself or, where what its rules read is no longer what it was, a new version of it.

    A rule may read a global, and a notebook may change that: circuits that were traced before keep the old version,
    for which no more kernels are emitted (see `refuse_changed`).
    """
    if is_built_in(gate) or gate.kind == "source":
        return gate
    use = use_of(count, params)
    now = meaning(gate, count, params)
    if traced.setdefault(gate, {}).setdefault(use, now) == now:
        return gate
    later = versions.setdefault(gate, {})
    if (use, now) not in later:
        later[use, now] = register(replace(gate))
        traced[later[use, now]] = {use: now}
    return later[use, now]


def meaning_when_traced(gate: Gate, count: int, params: Mapping[str, Any]) -> str:
    """The digest of what a gate of one's own meant when it was traced."""
    uses = traced.setdefault(gate, {})
    use = use_of(count, params)
    if use not in uses:
        uses[use] = meaning(gate, count, params)
    return uses[use]


def refuse_changed(gate: Gate, count: int, params: Mapping[str, Any]) -> None:
    """Refuse to emit a gate of one's own whose rules mean something else than when they were traced.

    Raises
    ------
    InputError : naming the gate and where its rule is defined.
    """
    if is_built_in(gate) or meaning_when_traced(gate, count, params) == meaning(gate, count, params):
        return
    code = getattr(gate.step or gate.constants, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    raise InputError(
        f"the rules of gate {gate.name}{place} compute something else than when this circuit was traced: a number that "
        "they read, a global or in a closure, has changed; trace the circuit (or make the run) again"
    )
