"""The array operations on wires, by name: what a front end translates another library's primitives into.

In: wires or plain arrays, of fixed shapes and dtypes. Out: wires, or arrays if no operand is a wire. Operands have the
labels that the operation requires, since other libraries convert them explicitly; elementwise operands are broadcast.
The names are those of the Python array API standard, and those of XLA where the standard has none.
"""

from circuitsketch.frontends.operations.table import OPERATIONS

__all__ = ["OPERATIONS"]
