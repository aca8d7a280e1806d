"""What pytest does not collect: the front ends of libraries that are not installed."""

from importlib.util import find_spec

collect_ignore = [
    path
    for library in ("jax", "torch")
    if find_spec(library) is None
    for path in (f"circuitsketch/{library}.py", f"circuitsketch/frontends/{library}")
]
