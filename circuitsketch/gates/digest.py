"""Identify a user-defined gate by a digest of the operations of its rules.

In: a gate, its number of operands and its parameters. Out: a sha256 of the operations that `constants` and `step`
perform on symbols. It is the same on every machine and in every process as long as the rules perform the same
arithmetic with the same numbers, and changes with any number, whether it is in a closure, a global, a default argument
or a helper function. Kernels are emitted from the same rules, so two gates with one digest compute the same, bit for
bit. A gate of the package is identified by its name and the package's version. The vjp is not part of the digest, since
the nodes that it adds are in the circuit; neither is the location of the definition.
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

ORDERS = 8  # coefficients recorded one by one; beyond, kernels loop over k, which is a symbol here
Use = tuple[int, str]  # number of operands, parameters
# The digest of a gate when it was first traced, and its newer versions by their digests.
traced: WeakKeyDictionary[Gate, dict[Use, str]] = WeakKeyDictionary()
versions: WeakKeyDictionary[Gate, dict[tuple[Use, str], Gate]] = WeakKeyDictionary()
unknown: WeakKeyDictionary[Gate, str] = WeakKeyDictionary()  # the digests of gates whose rules do not run on symbols


class Recording:
    """The operations of a rule, in order, each a tuple of texts."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []

    def write(self, what: str, *operands: Any) -> Symbol:
        """Append an operation and return its result."""
        self.lines.append((what, *map(operand_text, operands)))
        return Symbol(self, f"%{len(self.lines)}")


class Symbol:
    """An unknown number, whose arithmetic is recorded."""

    __slots__ = ("name", "recording")
    __array_ufunc__ = None  # arithmetic of NumPy scalars with symbols is left to the symbols

    def __init__(self, recording: Recording, name: str) -> None:
        self.recording = recording
        self.name = name

    def __neg__(self) -> Symbol:
        return self.recording.write("-", self)


def binary(sign: str, mirrored: bool) -> Callable[[Symbol, Any], Symbol]:
    """Return a binary operator, or its reflected form, in which the symbol is the right operand."""
    if mirrored:
        return lambda symbol, other: symbol.recording.write(sign, other, symbol)
    return lambda symbol, other: symbol.recording.write(sign, symbol, other)


for label, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("pow", "**")):
    setattr(Symbol, f"__{label}__", binary(sign, False))
    setattr(Symbol, f"__r{label}__", binary(sign, True))


def operand_text(operand: Any) -> str:
    """Return a symbol's name, or a number exactly, in hexadecimal."""
    return operand.name if isinstance(operand, Symbol) else float(operand).hex()


class SymbolMath:
    """The elementary functions that `constants` may call."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        return lambda *operands: self.recording.write(name, *operands)


class SymbolSeries:
    """A series. The coefficients of an operand and coefficient 0 of a result are symbols; rules set the others."""

    def __init__(self, recording: Recording, name: str, is_result: bool) -> None:
        self.recording = recording
        self.name = name
        self.known: dict[int, Any] = {0: Symbol(recording, f"{name}[0]")}
        if not is_result:
            self.known |= {k: Symbol(recording, f"{name}[{k}]") for k in range(1, ORDERS + 1)}

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, Symbol):
            return self.recording.write("read", Symbol(self.recording, self.name), k)
        return self.known[k] if k in self.known else Symbol(self.recording, "zero")

    def __setitem__(self, k: Any, value: Any) -> None:
        self.recording.write("set", Symbol(self.recording, self.name), k, value)
        if not isinstance(k, Symbol):
            self.known[operator.index(k)] = value


class SymbolOps:
    """The operations that `step` may call."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.zero = Symbol(recording, "zero")

    def choose(self, test: Any, x: Any, y: Any) -> Symbol:
        """Select one of two numbers."""
        return self.recording.write("choose", test, x, y)

    def convolve(
        self, k: Any, u: Any, v: Any, weight: Callable[[Any], Any] | None = None, low: int = 0, high: int = 0
    ) -> Symbol:
        """Sum weight(j) u_j v_{k-j} over j = low..k-high."""
        if isinstance(k, Symbol):
            factor = 1.0 if weight is None else weight(Symbol(self.recording, "j"))
            names = (Symbol(self.recording, series.name) for series in (u, v))
            return self.recording.write("convolve", k, *names, factor, low, high)
        terms: list[Any] = []
        for j in range(low, k - high + 1):
            terms += [1.0 if weight is None else weight(j), u[j], v[k - j]]
        return self.recording.write("convolve", *terms)


def digest_gate(gate: Gate, count: int, params: Mapping[str, Any]) -> str:
    """Return the digest of a gate's current rules, for a number of operands and parameters.

    If the rules do not run on symbols (for example because they branch on a value, as no kernel can), the digest is
    random: a stored sketch with such a gate is then never recognised by another process.
    """
    facts = (gate.kind, gate.arity, gate.reads, gate.domain, gate.flat, gate.companions, gate.result, gate.static)
    try:
        operations = record_rules(gate, count, params)
    except Exception:  # a user's rule may raise anything on a symbol
        return unknown.setdefault(gate, secrets.token_hex(32))
    return hashlib.sha256(repr((facts, count, use_of(count, params), operations)).encode()).hexdigest()


def record_rules(gate: Gate, count: int, params: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Record the operations of a gate's rules: the primals, coefficients 1, 2, ... one by one, and coefficient k."""
    recording = Recording()
    operands = [Symbol(recording, f"x{i}") for i in range(count)]
    if gate.constants is not None:
        recording.write("constants", *gate.constants(SymbolMath(recording), *operands, **params))
    if gate.step is None:
        return recording.lines
    every: Sequence[Any] = range(1, ORDERS + 1)
    for orders in (every, [Symbol(recording, "k")]):
        series = [SymbolSeries(recording, f"u{i}", False) for i in range(count)]
        results = [SymbolSeries(recording, f"v{i}", True) for i in range(1 + gate.companions)]
        begin = len(recording.lines)
        try:
            for k in orders:
                gate.step(k, SymbolOps(recording), *series, *results, **params)
        except Exception:
            if orders is every:
                raise
            recording.lines[begin:] = [("no high orders",)]  # as a rule that reads u[1]
    return recording.lines


def use_of(count: int, params: Mapping[str, Any]) -> Use:
    """Return the number of operands and the parameters, as text because -0.0 equals 0.0 and 1 equals True."""
    return count, repr(sorted(params.items()))


def current_version(gate: Gate, count: int, params: Mapping[str, Any]) -> Gate:
    """Return the gate to trace: the gate itself or, if its rules have changed since it was traced, a new version.

    A rule may read a global, which a notebook may change. Circuits that were traced before keep the old version, for
    which no more kernels are emitted (see `refuse_changed`).
    """
    if is_built_in(gate) or gate.kind == "source":
        return gate
    use = use_of(count, params)
    now = digest_gate(gate, count, params)
    if traced.setdefault(gate, {}).setdefault(use, now) == now:
        return gate
    newer = versions.setdefault(gate, {})
    if (use, now) not in newer:
        newer[use, now] = register(replace(gate))
        traced[newer[use, now]] = {use: now}
    return newer[use, now]


def digest_when_traced(gate: Gate, count: int, params: Mapping[str, Any]) -> str:
    """Return the digest that a user-defined gate had when it was traced."""
    uses = traced.setdefault(gate, {})
    use = use_of(count, params)
    if use not in uses:
        uses[use] = digest_gate(gate, count, params)
    return uses[use]


def refuse_changed(gate: Gate, count: int, params: Mapping[str, Any]) -> None:
    """Raise InputError if the rules of a user-defined gate have changed since it was traced."""
    if is_built_in(gate) or digest_when_traced(gate, count, params) == digest_gate(gate, count, params):
        return
    code = getattr(gate.step or gate.constants, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    raise InputError(
        f"the rules of gate {gate.name}{place} have changed since this circuit was traced: they read a global or "
        "closure variable that now has a different value; trace the circuit (or create the run) again"
    )
