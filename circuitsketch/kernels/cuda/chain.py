"""Chains of elementwise gates as device functions: the table's rules run on numbers that are source text.

A thread has one entry and one lane at a time. Coefficients of an entry lie `width` numbers apart, so neighbouring
threads read neighbouring numbers; constant terms are one number for all lanes.
"""

from __future__ import annotations

from typing import Any

from circuitsketch.gates import GATES
from circuitsketch.kernels.cpu.chain import Coefficients, straight
from circuitsketch.kernels.cpu.values import ZERO, Complex
from circuitsketch.kernels.cuda.frame import CudaTarget, dotted, function, lane_loop, unravelled
from circuitsketch.kernels.cuda.source import Page, Real
from circuitsketch.lower.tape import CHAIN_AXES, ChainKernel


def chain_function(name: str, kernel: ChainKernel, axes: int, target: CudaTarget) -> str:
    """The device function of a chain whose entries have no more than this many axes."""
    chain = Chain(kernel, axes, target)
    computed = chain.values() if target.mode.values else chain.series()
    says = " ".join(gate.gate for gate in kernel.gates)
    extents = [f"args[at + {CHAIN_AXES - axes + i}]" for i in range(axes)]
    body = [*unravelled("entry", extents, chain.indices), *chain.loads, *computed]
    return function(name, says, lane_loop(target, " * ".join(extents), body))


def coefficient(target: CudaTarget, array: str, base: str, k: int, label: str, page: Page) -> Real | Complex:
    """Coefficient k of the lane block that begins at `base`, to be loaded under a name."""
    if not target.mode.complex:
        return page.text(at(array, base, (k - 1) * target.width), f"{label}_{k}")
    offset = (k - 1) * 2 * target.width
    re = page.text(at(array, base, offset), f"{label}_{k}r")
    return Complex(re, page.text(at(array, base, offset + target.width), f"{label}_{k}i"))  # type: ignore[arg-type]


def at(array: str, base: str, offset: int) -> str:
    """array[base + offset]."""
    return f"{array}[{base} + {offset}]" if offset else f"{array}[{base}]"


def components(target: CudaTarget, series: Any) -> list[Any]:
    """The numbers of coefficients 1..order in the order in which they lie in memory."""
    found: list[Any] = []
    for k in range(1, target.mode.order + 1):
        value = series[k]
        pair = [value.re, value.im] if isinstance(value, Complex) else [value, ZERO]
        found += pair if target.mode.complex else pair[:1]
    return found


class Chain:
    """The body of a chain's loop under construction."""

    def __init__(self, kernel: ChainKernel, axes: int, target: CudaTarget) -> None:
        self.kernel = kernel
        self.axes = axes
        self.target = target
        self.page = Page(target)
        self.indices = ["entry", *(f"i{a}" for a in range(1, axes))]
        self.loads: list[str] = []
        self.placed: set[str] = set()

    def place(self, i: int, lanes: bool, lines: list[str]) -> str:
        """Where operand or result i stands: the name of its constant element or of its first number in the lanes."""
        begin = CHAIN_AXES + i * (2 + CHAIN_AXES)
        element, name = f"e{i}", f"x{i}" if lanes else f"k{i}"
        if element not in self.placed:
            lines.append(f"{element} = {dotted(self.indices, begin + 2 + CHAIN_AXES - self.axes)}")
        if name not in self.placed:
            where = f"(args[at + {begin + 1}] + {element}) * {self.target.unit} + lane"
            lines.append(f"{name} = {where if lanes else f'address(args[at + {begin}], now) + {element}'}")
        self.placed |= {element, name}
        return name

    def constant(self, ref: int) -> Real:
        """An operand's constant term."""
        return self.page.text(f"constants[{self.place(ref, False, self.loads)}]", f"c{ref}")

    def values(self) -> list[str]:
        """The loop's body where lanes hold values."""
        page = self.page

        def operand(ref: int) -> Any:
            if ref < 0:
                return computed[~ref]
            if not self.kernel.operands[ref].lanes:
                return self.constant(ref)
            return page.text(f"lanes[{self.place(ref, True, self.loads)}]", f"u{ref}")

        computed: list[Real] = []
        for i, gate in enumerate(self.kernel.gates):
            rule = GATES[gate.gate].constants
            assert rule is not None
            value = rule(page.math, *(operand(ref) for ref in gate.operands), **dict(gate.params))[0]
            computed.append(page.real(value))
            page.named(computed[-1], f"{gate.gate}{i}")
        return self.stored([[computed[i]] for i, _ in self.kernel.results])

    def series(self) -> list[str]:
        """The loop's body where lanes hold Taylor coefficients."""
        order = self.target.mode.order
        loaded: dict[int, Coefficients] = {}

        def operand(ref: int) -> Coefficients:
            if ref not in loaded:
                known = self.kernel.operands[ref]
                loaded[ref] = Coefficients(self.constant(ref) if known.constant else None, order)
                for k in range(1, order + 1) if known.lanes else ():
                    base = self.place(ref, True, self.loads)
                    loaded[ref][k] = coefficient(self.target, "lanes", base, k, f"u{ref}", self.page)
            return loaded[ref]

        computed: list[Coefficients] = []
        for i, gate in enumerate(self.kernel.gates):
            operands = [computed[~ref] if ref < 0 else operand(ref) for ref in gate.operands]
            value = self.constant(gate.value) if gate.value >= 0 else None
            computed.append(straight(self.page, gate, operands, value, [self.constant(c) for c in gate.companions]))
            for k in range(1, order + 1):
                self.page.named(computed[-1][k], f"{gate.gate}{i}_{k}")
        return self.stored([components(self.target, computed[i]) for i, _ in self.kernel.results])

    def stored(self, results: list[list[Any]]) -> list[str]:
        """Everything is computed before anything is stored: a result may lie where an operand lay."""
        lines, shown = self.page.written([number for numbers in results for number in numbers])
        texts = iter(shown)
        for i, numbers in enumerate(results):
            base = self.place(len(self.kernel.operands) + i, True, lines)
            lines += [f"{at('lanes', base, j * self.target.width)} = {next(texts)}" for j in range(len(numbers))]
        return lines
