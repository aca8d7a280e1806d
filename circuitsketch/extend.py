"""Define gates of your own, by a value, a Taylor recurrence and a derivative, and use them like NumPy functions.

- `elementwise(name, arity, constants, step, vjp, ...)` registers an elementwise function.
- `movement(name, arity, shape, value, vjp, ...)` registers a linear function of arrays, with `moves` or `view` for
  kernels.
- `integrate` and `integrate_quotient` return coefficient k of v where v' = d u' or d v' = u', for use in `step`.
- `DOMAINS` says where functions have a Taylor series; `DOMAINS["my domain"] = Domain(...)` adds a domain.
- `Gate` and `register` are the record itself, for everything else.

`constants(m, *x)` returns the value at real x, then the values of the companions, the auxiliary series of the
recurrence. It may use + - * /, the functions of `circuitsketch.gates.math.ELEMENTARY` as m.exp, m.log, ..., and
m.greater, m.greater_equal, m.equal, m.choose, m.maximum and m.minimum, but no branches. `step(k, ops, *u, v,
*companions)` sets coefficient k >= 1 of v and of the companions from lower ones, with + - * /, ops.convolve and
ops.choose. `vjp(ct, out, *x)` returns one cotangent per operand, written with gates and NumPy functions.

`circuitsketch.testing.check_gate` compares the parts of a new gate with each other.

A front end, which translates the programs of another library, takes its operations from `OPERATIONS`, a table of
functions of wires by their names in the Python array API standard (and in XLA), and names the lines of its user's
program by `with located(Place(file, line)):`.

Examples
--------

>>> import numpy as np, circuitsketch as cs
>>> def bump_step(k, ops, u, v, q):  # v = exp(q) with q = -u^2, so v' = v q'
...     q[k] = -ops.convolve(k, u, u)
...     v[k] = integrate(k, ops, q, v)
>>> bump = elementwise(
...     "bump", 1, lambda m, x: (m.exp(-(x * x)), -(x * x)), bump_step, lambda ct, out, x: (-2.0 * x * out * ct,),
...     companions=1,
... )
>>> coefficients = cs.compile(cs.trace(bump, 0.0), order=4).series((0.0,), (np.eye(1, 4),))[0].real
>>> coefficients.round(9) + 0.0  # 1 - z^2 + z^4 / 2
array([ 1. ,  0. , -1. ,  0. ,  0.5])
>>> cs.testing.check_gate(bump)
"""

from circuitsketch.circuit import Place
from circuitsketch.frontends.numpy import Builder, Wire, located
from circuitsketch.frontends.operations import OPERATIONS
from circuitsketch.gates.domains import DOMAINS, Domain
from circuitsketch.gates.exponential import integrate
from circuitsketch.gates.gate import GATES, Gate, elementwise, register
from circuitsketch.gates.inverse import integrate_quotient
from circuitsketch.gates.movement import movement

__all__ = [
    "DOMAINS",
    "GATES",
    "OPERATIONS",
    "Builder",
    "Domain",
    "Gate",
    "Place",
    "Wire",
    "elementwise",
    "integrate",
    "integrate_quotient",
    "located",
    "movement",
    "register",
]
