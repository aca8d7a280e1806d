"""What property tests draw from: operands for every gate in the table, and random programs over the whole table.

A gate is found by its kind: a new elementwise gate needs nothing here, a new gate that moves numbers one line in MOVES.
A gate for which operands cannot be made fails the tests that walk the table. Structure is drawn by hypothesis, one seed
an instruction, so that a failing program shrinks by losing instructions; numbers come from the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from circuitsketch.gates import GATES, Gate, cells
from circuitsketch.gates.domains import MARGIN, draw_operands, draw_unequal

Shape = tuple[int, ...]
Rng = np.random.Generator

# For tests whose examples are quick: more of them, in proportion to the profile.
many = settings(max_examples=6 * settings.default.max_examples)

NAMES = sorted(name for name, gate in GATES.items() if gate.kind != "source")
# Gates whose vjp is by definition not the derivative of their value.
EXEMPT = {
    "stop_gradient": "its vjp is none",
    "max_constant": "it stands where no value depends on it",
}
LARGEST = 64  # entries of a program's arrays
LIMIT = 3.0  # a program scales down what grows beyond: derivatives of a deep program stay moderate


@dataclass(frozen=True)
class Application:
    """A gate, arrays that it takes, its parameters; `moves` says which operands a derivative is in."""

    gate: Gate
    operands: tuple[np.ndarray, ...]
    params: dict[str, Any]
    moves: tuple[bool, ...]

    def __call__(self, *operands: Any) -> Any:
        return self.gate(*operands, **self.params)

    def with_moving(self, moving: Sequence[Any]) -> Any:
        """The gate with other operands where a derivative is in them."""
        rest = iter(moving)
        return self(*(next(rest) if moves else x for x, moves in zip(self.operands, self.moves, strict=True)))

    @property
    def moving(self) -> tuple[np.ndarray, ...]:
        """The operands that a derivative is in."""
        return tuple(x for x, moves in zip(self.operands, self.moves, strict=True) if moves)


# Elementwise gates: operands inside the domain, by MARGIN.


def indexed(rng: Rng) -> dict[str, Any]:
    """Which axis an index is of."""
    return {"axis": int(rng.integers(3)), "what": "index"}


PARAMETERS: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "power": lambda rng: {"exponent": float(rng.choice([1.5, -0.7, 0.3, 2.5, -2.0]))},
    "polygamma": lambda rng: {"order": int(rng.integers(0, 3))},
}


# Domains between two numbers, as a multiple of tanh and a shift.
SQUEEZED = {"between -1 and 1": (0.5, 0.0), "between 0 and 1": (0.25, 0.5)}


def elementwise(gate: Gate, rng: Rng, shape: Shape) -> Application:
    """Operands of one shape inside the gate's domain."""
    if gate.name == "in_bounds":
        extent = int(rng.integers(1, 5))
        operands = (rng.integers(-extent, extent, shape), np.full(shape, extent))
        return Application(gate, tuple(x.astype(float) for x in operands), indexed(rng), (True, False))
    if gate.static and gate.name not in PARAMETERS:
        raise LookupError(f"{gate.name} has parameters {gate.static}: add them to PARAMETERS in tests/strategies.py")
    params = PARAMETERS[gate.name](rng) if gate.static else {}
    if gate.name == "where":
        test = rng.integers(0, 2, shape).astype(float)
        return Application(gate, (test, *draw_unequal(rng, shape)), params, (False, True, True))
    operands = tuple(draw_operands(gate.domain, rng, shape, gate.arity))
    return Application(gate, operands, params, (True,) * len(operands))


# Gates of other kinds: parameters and further operands for a first operand of a given shape.


def any_shape(rng: Rng, least: int = 0, largest: int = 3) -> Shape:
    """A small shape, of 0 to 3 axes, rarely with an empty one."""
    rank = int(rng.integers(0, 4))
    return tuple(int(n) for n in rng.integers(max(least, 0), largest + 1, rank))


def reshape_params(rng: Rng, x: Shape) -> dict[str, Any]:
    n = cells(x)
    choices = [(n,), (1, n), (n, 1, 1), x[::-1], (*x, 1), *([(2, n // 2)] if n % 2 == 0 else [])]
    return {"shape": choices[rng.integers(len(choices))]}


def broadcast_params(rng: Rng, x: Shape) -> dict[str, Any]:
    lead = tuple(int(n) for n in rng.integers(0 if rng.random() < 0.1 else 1, 4, rng.integers(0, 2)))
    return {"shape": lead + tuple(int(rng.integers(1, 4)) if n == 1 else n for n in x)}


def runs(rng: Rng, extent: int) -> tuple[int, int, int]:
    """A start, step and count that stay on an axis."""
    count = int(rng.integers(0, extent + 1))
    if count == 0:
        return 0, 1, 0
    step = int(rng.integers(1, max((extent - 1) // max(count - 1, 1), 1) + 1))
    start = int(rng.integers(0, extent - (count - 1) * step))
    return (start, step, count) if rng.random() < 0.6 else (start + (count - 1) * step, -step, count)


def slice_params(rng: Rng, x: Shape) -> dict[str, Any]:
    chosen = [runs(rng, n) for n in x]
    return {name: tuple(run[i] for run in chosen) for i, name in enumerate(("starts", "steps", "shape"))}


def pad_params(rng: Rng, x: Shape) -> dict[str, Any]:
    steps = tuple(int(rng.choice([1, 1, 2, -1])) for _ in x)
    before = tuple(int(n) for n in rng.integers(0, 3, len(x)))
    spans = tuple(max(n - 1, 0) * abs(step) for n, step in zip(x, steps, strict=True))
    starts = tuple(b + (span if step < 0 else 0) for b, span, step in zip(before, spans, steps, strict=True))
    shape = tuple(b + span + 1 + int(rng.integers(0, 2)) for b, span in zip(before, spans, strict=True))
    return {"starts": starts, "steps": steps, "shape": shape}


def some_axes(rng: Rng, x: Shape) -> tuple[int, ...]:
    return tuple(axis for axis in range(len(x)) if rng.random() < 0.5)


def joined(rng: Rng, x: Shape) -> tuple[list[np.ndarray], dict[str, Any]]:
    axis = int(rng.integers(0, len(x)))
    others = [x[:axis] + (int(rng.integers(0, 3)),) + x[axis + 1 :] for _ in range(rng.integers(0, 3))]
    return [rng.uniform(-1.5, 1.5, other) for other in others], {"axis": axis}


def taken(rng: Rng, x: Shape) -> tuple[list[np.ndarray], dict[str, Any]]:
    axis = int(rng.integers(0, len(x)))
    shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 3)))
    return [rng.integers(0, x[axis], shape)], {"axis": axis}


def scattered(rng: Rng, x: Shape) -> tuple[list[np.ndarray], dict[str, Any]]:
    axis = int(rng.integers(0, len(x) + 1))
    rank = int(rng.integers(0, len(x) - axis + 1))
    length = int(rng.integers(1, 4))
    return [rng.integers(0, length, x[axis : axis + rank])], {"axis": axis, "length": length}


def contracted(rng: Rng, x: Shape, other: Shape | None = None) -> tuple[list[np.ndarray], dict[str, Any]]:
    """A second operand, or one of a given shape, that shares some indices; shared ones are summed over or kept."""
    left = "abcd"[: len(x)]
    extent = dict(zip(left, x, strict=True))
    if other is None:
        other = tuple(
            int(rng.choice(x)) if x and rng.random() < 0.7 else int(n) for n in rng.integers(1, 4, rng.integers(0, 3))
        )
    fresh = iter("wxyz")
    free = list(left)
    right = ""
    for n in other:
        same = [letter for letter in free if extent[letter] == n]
        if same and rng.random() < 0.8:
            right += str(rng.choice(same))
            free.remove(right[-1])
        else:
            right += next(fresh)
    kept = [c for c in dict.fromkeys(left + right) if not (c in left and c in right) or rng.random() < 0.3]
    spec = f"{left},{right}->{''.join(rng.permutation(kept)) if kept else ''}"
    return [rng.uniform(-1.5, 1.5, other)], {"spec": spec}


Made = tuple[list[np.ndarray], dict[str, Any]]
MOVES: dict[str, Callable[[Rng, Shape], Made]] = {
    "reshape": lambda rng, x: ([], reshape_params(rng, x)),
    "transpose": lambda rng, x: ([], {"axes": tuple(int(a) for a in rng.permutation(len(x)))}),
    "broadcast": lambda rng, x: ([], broadcast_params(rng, x)),
    "slice": lambda rng, x: ([], slice_params(rng, x)),
    "pad": lambda rng, x: ([], pad_params(rng, x)),
    "sum": lambda rng, x: ([], {"axes": some_axes(rng, x)}),
    "max_constant": lambda rng, x: ([], {"axes": some_axes(rng, x)}),
    "cumsum": lambda rng, x: ([], {"axis": int(rng.integers(0, len(x)))}),
    "concatenate": joined,
    "take": taken,
    "scatter_add": scattered,
    "einsum": contracted,
    "max": lambda rng, x: ([], {}),
    "min": lambda rng, x: ([], {}),
}
# What a first operand must have: axes, and entries on each.
LEAST_RANK = {"concatenate": 1, "take": 1, "cumsum": 1, "max": 1, "min": 1}
LEAST_EXTENT = {"take": 1, "max_constant": 1, "max": 1, "min": 1}


def application(name: str, rng: Rng) -> Application:
    """A gate with operands and parameters that suit it."""
    gate = GATES[name]
    if gate.kind == "elementwise":
        return elementwise(gate, rng, any_shape(rng))
    if name not in MOVES:
        raise LookupError(f"{name} is a {gate.kind} gate without a strategy: add it to MOVES in tests/strategies.py")
    empty = 0 if rng.random() < 0.1 else 1
    shape = any_shape(rng, max(empty, LEAST_EXTENT.get(name, 0)))
    while len(shape) < LEAST_RANK.get(name, 0):
        shape = (*shape, int(rng.integers(1, 4)))
    more, params = MOVES[name](rng, shape)
    first = rng.uniform(-1.5, 1.5, shape) if gate.domain is None else draw_operands(gate.domain, rng, shape, 1)[0]
    operands = (first, *more)
    return Application(gate, operands, params, tuple(x.dtype.kind == "f" for x in operands))


def applications(name: str) -> st.SearchStrategy[Application]:
    """Operands and parameters for a gate of the table."""
    return st.integers(0, 2**32 - 1).map(lambda seed: application(name, np.random.default_rng(seed)))


# Programs.

Ref = Any  # ("input", i), ("line", i), or plain data


@dataclass(frozen=True)
class Line:
    """One gate applied in a program."""

    name: str
    operands: tuple[Ref, ...]
    params: dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A random function of arrays: call it with wires or with arrays shaped like `inputs`; it returns a tuple."""

    inputs: tuple[np.ndarray, ...]
    lines: tuple[Line, ...]
    outputs: tuple[int, ...]

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        values: list[Any] = []

        def value(ref: Ref) -> Any:
            if isinstance(ref, tuple):
                return inputs[ref[1]] if ref[0] == "input" else values[ref[1]]
            return ref

        for line in self.lines:
            values.append(GATES[line.name](*(value(ref) for ref in line.operands), **line.params))
        return tuple(values[i] for i in self.outputs)

    @property
    def floats(self) -> tuple[int, ...]:
        """The positions of the inputs that can move."""
        return tuple(i for i, x in enumerate(self.inputs) if x.dtype.kind == "f")

    @property
    def indices(self) -> tuple[np.ndarray, ...]:
        """The integer inputs."""
        return tuple(x for x in self.inputs if x.dtype.kind == "i")

    def number(self, *inputs: Any) -> Any:
        """One number: a weighted sum of all entries of the outputs."""
        total: Any = 0.0
        for i, output in enumerate(self(*inputs)):
            shape = np.shape(output)
            weights = np.cos(1.0 + i + np.arange(cells(shape))).reshape(shape)
            total = total + np.sum(output * weights)
        return total

    def __repr__(self) -> str:
        def text(ref: Ref) -> str:
            return f"{ref[0][0]}{ref[1]}" if isinstance(ref, tuple) else np.array2string(np.asarray(ref), precision=4)

        heads = [f"i{i} = {x.dtype.kind}{list(x.shape)} {x.tolist()}" for i, x in enumerate(self.inputs)]
        body = [
            f"l{i} = {line.name}({', '.join(map(text, line.operands))}, {line.params})"
            for i, line in enumerate(self.lines)
        ]
        return "\n".join(["", *heads, *body, f"return {', '.join(f'l{i}' for i in self.outputs)}"])


@dataclass
class Draft:
    """A program being written, with the values that its wires have at its inputs: they keep it in every domain."""

    rng: Rng
    inputs: list[np.ndarray] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    values: dict[Ref, np.ndarray] = field(default_factory=dict)
    truths: list[Ref] = field(default_factory=list)
    floats: list[Ref] = field(default_factory=list)

    def input(self, x: np.ndarray) -> Ref:
        self.inputs.append(x)
        ref = ("input", len(self.inputs) - 1)
        self.values[ref] = x
        if x.dtype.kind == "f":
            self.floats.append(ref)
        return ref

    def at(self, ref: Ref) -> np.ndarray:
        return self.values[ref] if isinstance(ref, tuple) else np.asarray(ref)

    def line(self, name: str, *operands: Ref, **params: Any) -> Ref:
        value = np.asarray(GATES[name](*(self.at(ref) for ref in operands), **params), dtype=float)
        self.lines.append(Line(name, operands, params))
        ref = ("line", len(self.lines) - 1)
        self.values[ref] = value
        (self.truths if GATES[name].result == "bool" else self.floats).append(ref)
        return ref

    def pick(self, shape: Shape | None = None) -> Ref:
        """A float wire, the later the likelier; of a shape if there is one."""
        refs = [ref for ref in self.floats if shape is None or self.at(ref).shape == shape]
        return refs[-1 - min(int(self.rng.exponential(1.2)), len(refs) - 1)]

    def partner(self, x: Ref) -> Ref:
        """A second operand: a wire of the same shape, truth values, data, or one number."""
        shape = self.at(x).shape
        chance = self.rng.random()
        if chance < 0.5:
            return self.pick(shape)
        if chance < 0.6:  # a truth value is a number as well
            return next((ref for ref in reversed(self.truths) if self.at(ref).shape == shape), 1.0)
        return self.rng.uniform(-1.5, 1.5, shape if chance < 0.8 else ())

    def positive(self, x: Ref) -> Ref:
        """The wire's squares, above MARGIN."""
        return self.line("add", self.line("square", x), MARGIN)

    def parted(self, x: Ref, y: Ref) -> Ref:
        """x, moved by plain data where it comes near y."""
        gap = self.at(x) - self.at(y)
        near = np.abs(gap) < MARGIN
        return self.line("add", x, np.where(near, np.where(gap < 0, -2.0, 2.0) * MARGIN, 0.0)) if near.any() else x

    def elementwise(self, gate: Gate) -> None:
        x = self.pick()
        if gate.name == "in_bounds":
            shape, extent = self.at(x).shape, int(self.rng.integers(1, 5))
            index = self.input(self.rng.integers(-extent, extent, shape))
            self.line("in_bounds", index, np.full(shape, extent), **indexed(self.rng))
            return
        params = PARAMETERS[gate.name](self.rng) if gate.static else {}
        if gate.name == "where":
            y = self.partner(x)
            fitting = [ref for ref in self.truths if self.at(ref).shape == self.at(x).shape]
            test = fitting[-1] if fitting else self.line("greater", self.parted(x, 0.1), 0.1)
            self.line("where", test, x, y)
        elif gate.domain in ("positive", "above -1", "nonzero"):
            self.line(gate.name, self.positive(x), **params)
        elif gate.domain in SQUEEZED:
            scale, shift = SQUEEZED[gate.domain]
            self.line(gate.name, self.line("add", self.line("multiply", self.line("tanh", x), scale), shift), **params)
        elif gate.domain == "above 1":
            self.line(gate.name, self.line("add", self.positive(x), 1.0))
        elif gate.domain == "not the origin":
            self.line(gate.name, self.partner(x), self.positive(x))
        elif gate.domain == "nonzero divisor":
            y = self.partner(x)
            self.line(gate.name, x, self.positive(y) if isinstance(y, tuple) else np.abs(y) + MARGIN)
        elif gate.domain == "base of a power":
            self.line(gate.name, self.positive(x), self.partner(x))
        elif gate.domain == "kink at zero":
            self.line(gate.name, self.parted(x, 0.0))
        elif gate.domain == "kink at equality":
            y = self.partner(x)
            self.line(gate.name, self.parted(x, y), y)
        elif gate.domain is None and gate.arity is not None:
            self.line(gate.name, x, *(self.partner(x) for _ in range(gate.arity - 1)), **params)
        else:
            raise LookupError(f"domain {gate.domain!r} of {gate.name}: tell Draft.elementwise in tests/strategies.py")

    def moving(self, name: str) -> None:
        x = self.pick()
        shape = self.at(x).shape
        if len(shape) < LEAST_RANK.get(name, 0):
            x = self.line("reshape", x, shape=(*shape, 1))
            shape = self.at(x).shape
        if GATES[name].domain is not None:
            apart = draw_operands(GATES[name].domain, self.rng, shape, 1)[0]
            x = self.line("add", x, apart - self.at(x))
        if name == "einsum" and self.rng.random() < 0.6:
            y = self.pick()
            if len(shape) + self.at(y).ndim <= 5:
                _, params = contracted(self.rng, shape, self.at(y).shape)
                self.line(name, x, y, **params)
                return
        more, params = MOVES[name](self.rng, shape)
        refs: list[Ref] = []
        for extra in more:
            if extra.dtype.kind == "i":
                refs.append(self.input(extra) if self.rng.random() < 0.7 else extra)
            else:
                same = [ref for ref in self.floats if self.at(ref).shape == extra.shape]
                refs.append(same[-1] if same and self.rng.random() < 0.7 else extra)
        self.line(name, x, *refs, **params)

    def instruct(self, seed: int, names: Sequence[str]) -> None:
        """Add one of some gates, and what it needs, unless the arrays would grow large."""
        self.rng = np.random.default_rng(seed)
        name = names[self.rng.integers(len(names))]
        mark = (len(self.lines), len(self.inputs), len(self.truths), len(self.floats))
        gate = GATES[name]
        if gate.kind == "elementwise":
            self.elementwise(gate)
        else:
            self.moving(name)
        last = ("line", len(self.lines) - 1)
        if not 0 < self.at(last).size <= LARGEST or self.at(last).ndim > 4:
            del self.lines[mark[0] :], self.inputs[mark[1] :], self.truths[mark[2] :], self.floats[mark[3] :]
        else:
            grown = [ref for ref in self.floats[mark[3] :] if np.max(np.abs(self.at(ref)), initial=0.0) > LIMIT]
            self.floats = [ref for ref in self.floats if ref not in grown]
            if last in grown:
                self.line("multiply", last, 1.0 / np.max(np.abs(self.at(last))))


def written(
    shapes: Sequence[Shape], seeds: Sequence[int], names: Sequence[str], last: str | None, outputs: int
) -> Program:
    """The program of some instructions, each a seed; its outputs are its last float wires."""
    rng = np.random.default_rng(seeds[0])
    draft = Draft(rng)
    for shape in shapes:
        draft.input(rng.uniform(-1.5, 1.5, shape))
    for seed in seeds:
        draft.instruct(seed, names)
    if last is not None:
        draft.instruct(seeds[0], [last])
    if not any(ref[0] == "line" for ref in draft.floats):
        draft.line("square", draft.pick())
    ends = [ref[1] for ref in draft.floats if ref[0] == "line"][-outputs:]
    return Program(tuple(draft.inputs), tuple(draft.lines), tuple(ends))


def programs(
    using: str | None = None, most: int = 10, outputs: int = 2, without: Sequence[str] = ()
) -> st.SearchStrategy[Program]:
    """Random programs of 1 to 3 arrays and up to `most` gates (and those that keep these in their domains).

    using : a gate that each of them has (unless its result would be large). without : gates that none has.
    `without=EXEMPT` gives programs whose gradient is the derivative of their value.
    """
    shape = st.lists(st.integers(1, 3), max_size=3).map(tuple)  # extents of 1 too: they broadcast
    names = [name for name in NAMES if name not in without]
    # A seed says which gate, and on what; distinct ones, so that gates vary.
    seeds = st.lists(st.integers(0, 2**32 - 1), min_size=1 + most // 4, max_size=most, unique=True)
    return st.builds(
        written,
        st.lists(shape, min_size=1, max_size=3),
        seeds,
        st.just(names),
        st.just(using),
        st.just(outputs),
    )
