"""The NumPy front end: trace functions written in NumPy into circuits, by calling them with wires."""

from circuitsketch.frontends.numpy import dispatch  # noqa: F401  # gives wires the rules of NumPy's functions
from circuitsketch.frontends.numpy.tracing import replay, trace
from circuitsketch.frontends.numpy.wire import Builder, Wire, located

__all__ = ["Builder", "Wire", "located", "replay", "trace"]
