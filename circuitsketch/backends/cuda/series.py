"""Write the device functions that load, store and multiply series, and those of the gates.

A gate's function is written by running its rule on numbers that are source text: once for every combination of operands
that are series, and of constant terms that the rule reads.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from circuitsketch.backends.cuda.expressions import ExpressionGraph, SourceReal
from circuitsketch.backends.cuda.kernel_builder import CudaTarget, write_function
from circuitsketch.backends.numbers import ZERO, Complex
from circuitsketch.backends.series import Coefficients, emit_gate, list_products
from circuitsketch.gates import Gate
from circuitsketch.lower.instructions import ChainGate

LETTERS = "uwxyz"  # names of operands


def make_identifier(gate: Gate) -> str:
    """Return a gate's name as part of a Python identifier; the name of a user's gate may be any text."""
    return re.sub("[^0-9A-Za-z_]", "_", f"_{gate.name}" if gate.name[:1].isdigit() else gate.name)


def name_numbers(target: CudaTarget, letter: str) -> list[str]:
    """Return the names of the numbers of a series, in their order in memory."""
    if target.mode.values:
        return [letter]
    suffixes = "ri" if target.mode.complex else [""]
    return [f"{letter}_{k}{s}" for k in range(1, target.mode.order + 1) for s in suffixes]


def format_tuple(names: list[str]) -> str:
    """Return names as the inside of a tuple, also of one name."""
    return names[0] + "," if len(names) == 1 else ", ".join(names)


def write_primitives(target: CudaTarget) -> list[str]:
    """Write `series`, `store`, `zeros`, and the products of contractions: of a number or a series with a series."""
    shifts = [f" + {j * target.width}" if j else "" for j in range(target.mode.components)]
    values = target.mode.values
    names = name_numbers(target, "u")
    loads = [f"lanes[index(x{shift})]" for shift in shifts]
    stores = [f"lanes[index(x{shift})] = {name}" for shift, name in zip(shifts, names, strict=True)]
    unpack = [] if values else [f"{format_tuple(names)} = u"]
    returned = loads[0] if values else f"({format_tuple(loads)})"
    zeros = target.zero if values else f"({format_tuple([target.zero] * len(names))})"
    return [
        write_function(
            "series", "lanes, x", "The numbers of the series that begins at lanes[x].", [f"return {returned}"]
        ),
        write_function("store", "lanes, x, u", "Put a series at lanes[x].", [*unpack, *stores]),
        write_function("zeros", "", "A sum of nothing.", [f"return {zeros}"]),
        write_product(target, "add_scaled", False),
        write_product(target, "add_product", True),
    ]


def write_product(target: CudaTarget, name: str, both: bool) -> str:
    """Write t + u * w, where u is a number or, if `both`, a series; the compiler fuses every term."""
    graph = ExpressionGraph(target)
    parameters = ["t", *(["u_0", "u"] if both else ["u_0"]), *(["w_0"] if both else []), "w"]
    if target.mode.values:
        left = graph.text("u") if both else graph.text("u_0")
        _, (text,) = graph.write([graph.text("t") + left * graph.text("w")])
        return write_function(name, "t, u, w" if both else "t, u_0, w", "t + u w", [f"return {text}"])
    totals = [graph.text(t) for t in name_numbers(target, "t")]
    u = make_coefficients(target, graph, "u", graph.text("u_0"), both)
    w = make_coefficients(target, graph, "w", graph.text("w_0") if both else ZERO, True)
    per = 2 if target.mode.complex else 1
    for k in range(1, target.mode.order + 1):
        for j in range(k + 1):
            for product in chain.from_iterable(list_products(u[j], w[k - j])):
                at, value = (k - 1) * per + product.part, product.left * product.right
                totals[at] = totals[at] - value if product.subtracted else totals[at] + value
    lines, shown = graph.write(totals)
    unpack = [f"{format_tuple(name_numbers(target, letter))} = {letter}" for letter in ("tuw" if both else "tw")]
    return write_function(name, ", ".join(parameters), "t + u w", [*unpack, *lines, f"return ({format_tuple(shown)})"])


def make_coefficients(
    target: CudaTarget, graph: ExpressionGraph, letter: str, constant: Any, lanes: bool
) -> Coefficients:
    """Return a series of named numbers."""
    series = Coefficients(constant, target.mode.order)
    if lanes:
        numbers: list[Any] = [graph.text(name) for name in name_numbers(target, letter)]
        for k in range(1, target.mode.order + 1):
            series[k] = Complex(*numbers[2 * k - 2 : 2 * k]) if target.mode.complex else numbers[k - 1]
    return series


def list_components(target: CudaTarget, series: Coefficients) -> list[Any]:
    """Return the numbers of coefficients 1..order, in their order in memory."""
    numbers: list[Any] = []
    for k in range(1, target.mode.order + 1):
        value = series[k]
        pair = [value.re, value.im] if isinstance(value, Complex) else [value, ZERO]
        numbers += pair if target.mode.complex else pair[:1]
    return numbers


class GateFunctions:
    """The functions of a program's gates, each written once.

    Attributes
    ----------
    texts : by name.
    parameters : for every name the parameters of the function, such as ["u", "u_0", "v_0"].
    """

    def __init__(self, target: CudaTarget) -> None:
        self.target = target
        self.names: dict[Any, str] = {}
        self.texts: dict[str, str] = {}
        self.parameters: dict[str, list[str]] = {}

    def define(self, gate: ChainGate, lanes: tuple[bool, ...], known: tuple[bool, ...]) -> str:
        """Write a gate's function if there is none yet, and return its name.

        lanes : which operands are series. known : which operands' constant terms are available.
        """
        same = tuple(gate.operands.index(ref) for ref in gate.operands)
        key = (gate.gate, gate.exact, lanes, known, same, gate.value >= 0, len(gate.companions))
        if key not in self.names:
            parameters, body = self.write(gate, lanes, known, same)
            called = make_identifier(gate.gate)
            says = called + "".join(f", {name} {value}" for name, value in gate.params)
            says = re.sub(r'["\\\n]', "_", says)  # what would end the docstring
            first = name = f"{called}_{''.join('s' if has else 'c' for has in lanes)}"
            i = 1
            while (text := write_function(name, ", ".join(parameters), says, body)) != self.texts.setdefault(
                name, text
            ):
                i += 1
                name = f"{first}{i}"
            self.names[key] = name
            self.parameters[name] = parameters
        return self.names[key]

    def write(
        self, gate: ChainGate, lanes: tuple[bool, ...], known: tuple[bool, ...], same: tuple[int, ...]
    ) -> tuple[list[str], list[str]]:
        """Run a gate's rule on named numbers; return the parameters that it reads, and the function's body."""
        graph = ExpressionGraph(self.target)
        leaves: dict[str, list[SourceReal]] = {}  # parameter -> the numbers that the rule may read of it

        def constant(argument: str) -> SourceReal:
            leaves[argument] = [graph.text(argument)]
            return leaves[argument][0]

        if self.target.mode.values:
            rule = gate.gate.constants
            assert rule is not None
            results = [rule(graph.math, *(constant(LETTERS[i]) for i in same), **dict(gate.params))[0]]
        else:
            operands: list[Coefficients] = []
            for i, (has, is_known, first) in enumerate(zip(lanes, known, same, strict=True)):
                if first < i:
                    operands.append(operands[first])
                    continue
                letter = LETTERS[i]
                zero = constant(f"{letter}_0") if is_known else None
                operands.append(make_coefficients(self.target, graph, letter, zero, has))
                if has:
                    leaves[letter] = [graph.text(n) for n in name_numbers(self.target, letter)]
            value = constant("v_0") if gate.value >= 0 else None
            companions = [constant(f"v{i}_0") for i in range(1, len(gate.companions) + 1)]
            series = emit_gate(graph, gate, operands, value, companions)
            for k in range(1, self.target.mode.order + 1):
                graph.request_name(series[k], f"v_{k}")
            results = list_components(self.target, series)
        lines, shown = graph.write(results)
        parameters = [a for a, read in leaves.items() if any(leaf in graph.used for leaf in read)]
        if self.target.mode.values:
            return parameters, [*lines, f"return {shown[0]}"]
        unpack = [f"{format_tuple(name_numbers(self.target, a))} = {a}" for a in parameters if a in LETTERS]
        return parameters, [*unpack, *lines, f"return ({format_tuple(shown)})"]
