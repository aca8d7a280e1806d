"""Tracing: ordinary NumPy functions, called with wires, become circuits."""

from circuitsketch.trace.tracing import replay, trace
from circuitsketch.trace.tree import Tree, flatten, leaves_like, transform, unflatten
from circuitsketch.trace.wire import Builder, Wire

__all__ = ["Builder", "Tree", "Wire", "flatten", "leaves_like", "replay", "trace", "transform", "unflatten"]
