"""Check user-defined gates: compare the parts of a gate's record with each other.

In: a gate. Out: nothing, or a GateError that says which check failed and by how much. The value is the reference:
series are compared with interpolations of values, derivatives with finite differences of values, kernels with the NumPy
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from circuitsketch.autodiff import evaluate, grad
from circuitsketch.backends import reference
from circuitsketch.circuit import Circuit, check
from circuitsketch.compiler import compile
from circuitsketch.errors import CircuitSketchError, GateError, InputError
from circuitsketch.frontends.numpy.tracing import trace
from circuitsketch.gates import Gate
from circuitsketch.gates.domains import draw_operands

__all__ = ["check_gate"]

RADIUS = 0.2  # operands move by up to 0.2 per unit of direction, less than the margin of every domain
NODES = 25  # Chebyshev nodes for the interpolation of values along a curve
STEP = 1e-5  # step size of central differences
SHORT, LONG = 3, 10  # orders with unrolled kernels, and with loops


def check_gate(
    gate: Gate,
    operands: Sequence[Any] | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    order: int = 5,
    vjp: bool = True,
    kernels: bool = True,
    seed: int = 0,
) -> None:
    """Check that a gate's value, shape, series, derivatives, size and kernels agree.

    Parameters
    ----------
    gate : Gate
        The gate.
    operands : sequence of array_like, optional
        Operands inside the gate's domain, 0.2 or more from its boundary; floats are varied, integers are indices. By
        default, for elementwise gates only, random operands in the domain.
    params : mapping, optional
        The gate's parameters.
    order : int
        The highest Taylor coefficient to compare with values.
    vjp : bool
        Whether the vjp is the derivative of the value; that of `stop_gradient`, for example, is not.
    kernels : bool
        Whether to compile kernels and compare them, which takes about a second.
    seed : int
        The seed of operands and directions.

    Raises
    ------
    GateError
        If a check fails; the message names the check and the values that differ.
    InputError
        If there are no operands for a gate that is not elementwise.

    Examples
    --------
    >>> from circuitsketch.gates import GATES
    >>> check_gate(GATES["tanh"], kernels=False)
    """
    rng = np.random.default_rng(seed)
    options = dict(params or {})
    if operands is None:
        if gate.kind != "elementwise" or gate.arity is None:
            raise InputError(f"check_gate draws operands for elementwise gates only; pass operands= for {gate.name}")
        operands = draw_operands(gate.domain, rng, (2, 3), gate.arity)
    arrays = [np.asarray(x) for x in operands]
    moves = [x.dtype.kind == "f" and i != gate.index for i, x in enumerate(arrays)]

    def apply(*moving: Any) -> Any:
        rest = iter(moving)
        return gate(*(next(rest) if moved else x for x, moved in zip(arrays, moves, strict=True)), **options)

    law = Laws(gate, apply, [x for x, moved in zip(arrays, moves, strict=True) if moved])
    law.try_to("have a value", law.check_value, arrays, options)
    law.try_to("have a series", law.check_series, rng, order)
    law.try_to("expand", law.check_size)
    shares = law.try_to("have a vjp", law.apply_vjp, rng, arrays, options)
    if vjp and not gate.flat:
        law.try_to("have a vjp", law.check_vjp, rng, moves, *shares)
        law.try_to("have a second derivative", law.check_second_derivative, rng, any(s is None for s in shares[1]))
    if kernels:
        law.try_to("run in kernels", law.check_kernels, rng)


class Laws:
    """The checks of one gate, as a function of its varied operands, at one point."""

    def __init__(self, gate: Gate, apply: Callable[..., Any], point: list[np.ndarray]) -> None:
        self.gate = gate
        self.apply = apply
        self.point = point

    def try_to(self, what: str, law: Callable[..., Any], *args: Any) -> Any:
        """Call a check; an exception in a rule of the gate becomes a GateError."""
        try:
            with np.errstate(all="ignore"):
                return law(*args)
        except CircuitSketchError:
            raise
        except Exception as reason:
            raise GateError(f"gate {self.gate.name} does not {what}: {type(reason).__name__}: {reason}") from reason

    def compare(self, law: str, ours: Any, theirs: Any, tolerance: float) -> None:
        """Raise GateError if two arrays differ by more than a tolerance, relative to 1 plus their largest magnitude."""
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.shape != theirs.shape:
            raise GateError(f"gate {self.gate.name}: {law}: shapes {ours.shape} and {theirs.shape}")
        scale = 1.0 + np.max(np.abs(theirs), initial=0.0)
        errors = np.abs(ours - theirs)
        if np.all(errors <= tolerance * scale):  # false for a NaN
            return
        worst = np.unravel_index(np.argmax(np.where(np.isnan(errors), np.inf, errors)), errors.shape)
        at = f" at {tuple(int(i) for i in worst)}" if worst else ""
        raise GateError(f"gate {self.gate.name}: {law}: {ours[worst]:.12g} and {theirs[worst]:.12g}{at}")

    @property
    def circuit(self) -> Circuit:
        """The circuit of the gate."""
        return check(trace(lambda *moving: self.apply(*moving), *self.point))

    def jet(self, series: list[np.ndarray], order: int) -> np.ndarray:
        """Compute coefficients (directions, order + 1, *shape) by the gate's rule, in NumPy."""
        return reference.run(self.circuit, self.point, list(series), order)[0]

    def directions(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Draw one direction per operand."""
        return [rng.uniform(-1.0, 1.0, x.shape) for x in self.point]

    def differentiate(self, function: Callable[..., Any], directions: list[np.ndarray]) -> np.ndarray:
        """Return the directional derivative of a function at the point, by central differences."""
        ahead, behind = (
            np.asarray(function(*(x + sign * STEP * d for x, d in zip(self.point, directions, strict=True))))
            for sign in (1, -1)
        )
        return (ahead - behind) / (2 * STEP)

    def check_value(self, arrays: list[np.ndarray], options: dict[str, Any]) -> None:
        """Check that the shape rule gives the shape of the value, which is finite."""
        value = np.asarray(self.apply(*self.point))
        shape = self.gate.shape(*(x.shape for x in arrays), **options)
        if tuple(shape) != value.shape:
            raise GateError(
                f"gate {self.gate.name}: its shape rule gives {shape}, but its value has shape {value.shape}"
            )
        if not np.all(np.isfinite(value)):
            raise GateError(f"gate {self.gate.name}: its value is not finite at operands inside its domain")

    def check_series(self, rng: np.random.Generator, order: int) -> None:
        """Compare the coefficients along a curve x + t d + t^2 e with an interpolation of values."""
        first, second = self.directions(rng), self.directions(rng)
        curve = [np.zeros((1, order, *x.shape)) for x in self.point]
        for part, d, e in zip(curve, first, second, strict=True):
            part[0, 0], part[0, 1] = d, 0.5 * e
        ours = self.jet(curve, order)[0]
        self.compare("coefficient 0 is the value", ours[0].real, self.apply(*self.point), 1e-13)
        if self.gate.flat:
            self.compare("a flat gate has no series", ours[1:].real, 0.0 * ours[1:].real, 0.0)
            return
        nodes = np.polynomial.chebyshev.chebpts1(NODES)
        values = np.array(
            [
                self.apply(*(x + RADIUS * t * (d + 0.5 * RADIUS * t * e) for x, d, e in self.curve(first, second)))
                for t in nodes
            ]
        )
        fit = np.polynomial.chebyshev.chebfit(nodes, values.reshape(NODES, -1), NODES - 1)
        for k in range(1, order + 1):
            # Coefficient k of the interpolation, by its k-th derivative at 0.
            slope = np.polynomial.chebyshev.chebder(fit, k)
            theirs = np.polynomial.chebyshev.chebval(0.0, slope) / np.prod(np.arange(1.0, k + 1)) / RADIUS**k
            # Values good to 1e-16 lose up to a factor NODES^k / k! / RADIUS^k: 1e-6 at order 5.
            self.compare(
                f"coefficient {k} of its series, by the rule and by interpolation",
                ours[k].real,
                theirs.reshape(ours[k].shape),
                1e-11 * 12.0**k,
            )

    def curve(self, first: list[np.ndarray], second: list[np.ndarray]) -> Any:
        """Pair the point with its two directions."""
        return zip(self.point, first, second, strict=True)

    def check_size(self) -> None:
        """Check that the size is the number of scalar gates in the expansion, and that these compute the value."""
        circuit = self.circuit
        scalar = check(circuit.expand())
        if circuit.size != scalar.size:
            raise GateError(f"gate {self.gate.name}: its size is {circuit.size}, but it expands to {scalar.size} gates")
        flat = [float(entry) for x in self.point for entry in x.ravel()]
        self.compare(
            "the value, by the array gate and by scalar gates",
            np.asarray(evaluate(scalar, flat), dtype=float),
            np.ravel(np.asarray(self.apply(*self.point), dtype=float)),
            1e-12,
        )

    def apply_vjp(self, rng: np.random.Generator, arrays: list[np.ndarray], options: dict[str, Any]) -> Any:
        """Draw a cotangent of the result; return it and the cotangents of the operands."""
        out = np.asarray(self.apply(*self.point))
        ct = rng.uniform(-1.0, 1.0, out.shape)
        shares = self.gate.vjp(ct, out, *arrays, **options)
        if not isinstance(shares, tuple) or len(shares) != len(arrays):
            raise GateError(
                f"gate {self.gate.name}: its vjp must return a tuple of {len(arrays)}, one cotangent per operand"
            )
        if self.gate.flat and any(share is not None for share in shares):
            raise GateError(f"gate {self.gate.name} is flat, but its vjp is not None for every operand")
        return ct, shares

    def check_vjp(self, rng: np.random.Generator, moves: list[bool], ct: np.ndarray, shares: tuple[Any, ...]) -> None:
        """Check that sum(ct * jvp) = sum(vjp * direction), and that the jvp is the derivative of values."""
        directions = self.directions(rng)
        pushed = self.jet([d[None, None] for d in directions], 1)[0, 1].real
        slope = self.differentiate(self.apply, directions)
        self.compare("its first derivative, by the rule and by differences", pushed, slope, 1e-6)
        pulled = 0.0
        moving = [share for share, moved in zip(shares, moves, strict=True) if moved]
        for share, x, d in zip(moving, self.point, directions, strict=True):
            if share is None:
                continue
            if np.shape(share) != x.shape:
                raise GateError(
                    f"gate {self.gate.name}: its vjp returns a cotangent of shape {np.shape(share)} for an operand of "
                    f"shape {x.shape}"
                )
            pulled += float(np.sum(share * d))
        self.compare("its vjp is the adjoint of its series' first coefficient", pulled, np.sum(ct * pushed), 1e-10)

    def check_second_derivative(self, rng: np.random.Generator, constant: bool) -> None:
        """Compare the gradient of the gradient with differences of gradients."""
        if constant and not self.point:
            return
        weights = rng.uniform(-1.0, 1.0, np.shape(self.apply(*self.point)))
        first, second = self.directions(rng), self.directions(rng)

        def slope(moving: Any) -> Any:
            shares = grad(lambda xs: np.sum(weights * self.apply(*xs)))(moving)
            total: Any = 0.0
            for share, d in zip(shares, first, strict=True):
                total = total + np.sum(d * share)
            return total

        ours = sum(float(np.sum(d * s)) for d, s in zip(second, grad(slope)(tuple(self.point)), strict=True))
        theirs = self.differentiate(lambda *xs: slope(xs), second)
        self.compare("its second derivative, by its vjp twice and by differences", ours, theirs, 1e-5)

    def check_kernels(self, rng: np.random.Generator) -> None:
        """Compare compiled kernels with the rule in NumPy."""
        circuit = self.circuit
        self.compare("the value, compiled and in NumPy", compile(circuit)(*self.point), self.apply(*self.point), 1e-12)
        for order in (SHORT, LONG):
            sizes = 0.2 / np.arange(1, order + 1) ** 2
            series = [
                sizes.reshape(-1, *[1] * x.ndim)
                * rng.uniform(-1.0, 1.0, (2, order, *x.shape))
                * np.exp(1j * rng.uniform(0.0, 6.0, (2, order, *x.shape)))
                for x in self.point
            ]
            if not series:
                return
            theirs = self.jet(series, order)
            ours = np.asarray(compile(circuit, order).series(tuple(self.point), tuple(series)))
            theirs = np.broadcast_to(theirs, ours.shape)
            self.compare(f"the series at order {order}, compiled and in NumPy", ours, theirs, 1e-11)
