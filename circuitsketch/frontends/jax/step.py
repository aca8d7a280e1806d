"""Import a training step of JAX, gradient and optimiser included, as a step of wires.

In: a step (state, batch, keep) -> state written in JAX, the initial state, and the batch and examples of every step.
Out: a step of wires, on the leaves of the state that weights reach, and batches of what wires meet of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from circuitsketch.arguments import call, quoted, shortened
from circuitsketch.errors import InputError, ShapeError, TraceError
from circuitsketch.frontends.imported import ImportedStep, explain_difference, flatten_pytree
from circuitsketch.frontends.jax.known import Foreknowledge, StepKind
from circuitsketch.frontends.jax.state import (
    Arrays,
    StateLayout,
    check_names,
    explain_refusal,
    is_array,
    leaf_names,
    spec_of,
)
from circuitsketch.frontends.jax.tracing import trace_with_jax
from circuitsketch.frontends.jax.values import is_complex, plain
from circuitsketch.tree import flatten_up_to


class StepTracer:
    """Makes the jaxprs of a step, one per kind of batch.

    Parameters
    ----------
    step : the user's. arrays : the structure of the state. names : the paths of its arrays.
    specs : the shapes and dtypes of its arrays.
    """

    def __init__(self, step: Callable[..., Any], arrays: Arrays, names: Sequence[str], specs: list[Any]) -> None:
        self.step, self.arrays, self.names, self.specs = step, arrays, names, specs
        self.kinds: dict[Any, StepKind] = {}
        self.changed: set[int] = set()  # positions of Python's numbers in the state that a step changes

    def kind_of(self, batch: Any, count: int, t: int) -> tuple[StepKind, list[Any]]:
        """Return the kind of a step on `count` examples, and the arrays of its batch."""
        leaves, arrays = Arrays.of(batch, f"batches[{t}]")
        for i, leaf in arrays.others.items():
            if not isinstance(leaf, bool):
                problem = explain_refusal(leaf) or f"is {quoted(leaf)}; a batch consists of arrays and numbers"
                raise InputError(f"{leaf_names(batch, f'batches[{t}]')[i]} {problem}")
        specs = [spec_of(leaf) for leaf in leaves]
        key = arrays.key, tuple((spec.shape, spec.dtype) for spec in specs), count
        if key not in self.kinds:
            self.kinds[key] = self.trace(arrays, specs, count, t)
        return self.kinds[key], leaves

    def trace(self, batch: Arrays, specs: list[Any], count: int, t: int) -> StepKind:
        """Return the jaxpr of a step."""
        keep = jax.ShapeDtypeStruct((count,), jnp.result_type(float))

        def flat_step(state: list[Any], values: list[Any], keep: Any) -> list[Any]:
            after = call(self.step, "step", self.arrays.rebuild(state), batch.rebuild(values), keep)
            return self.arrays_after(after, t)

        jaxpr, _ = trace_with_jax(flat_step, self.specs, specs, keep)
        return StepKind(jaxpr, tuple(self.specs), tuple(specs), keep)

    def arrays_after(self, state: Any, t: int) -> list[Any]:
        """Return the arrays of the state after a step; raise an error if its structure or a shape is another."""
        leaves, structure = flatten_pytree(jax.tree_util.tree_flatten, state, f"what step {t} returns")
        if structure != self.arrays.structure:
            names, before = leaf_names(state, "state"), leaf_names(self.arrays.rebuild(self.specs), "state")
            difference = explain_difference(names, before) or (
                f"{shortened(str(structure))}, but the state is {shortened(str(self.arrays.structure))}"
            )
            raise InputError(
                f"step {t} returns {difference}; return a state of the same structure, without losses or metrics "
                "beside it"
            )
        self.changed.update(self.arrays.changed_numbers(state))
        leaves = [leaves[i] for i in self.arrays.positions]
        for leaf, spec, name in zip(leaves, self.specs, self.names, strict=True):
            if not is_array(leaf) and not isinstance(leaf, bool):
                raise InputError(f"step {t} returns {name} = {quoted(leaf)}; return an array of shape {spec.shape}")
            if np.shape(leaf) != spec.shape:
                raise ShapeError(f"step {t} returns {name} of shape {np.shape(leaf)}; the state has shape {spec.shape}")
        return leaves

    def widened(self) -> list[Any]:
        """Return the shapes and dtypes of the state after steps, if these are wider than before."""
        specs = list(self.specs)
        for kind in self.kinds.values():
            for i, (spec, after) in enumerate(zip(specs, kind.jaxpr.out_avals, strict=True)):
                if spec.dtype != after.dtype:
                    specs[i] = jax.ShapeDtypeStruct(spec.shape, jnp.promote_types(spec.dtype, after.dtype))
        return specs


def trace_steps(
    step: Callable[..., Any], state: Any, batches: Sequence[Any], counts: Sequence[int]
) -> tuple[StepTracer, list[tuple[StepKind, list[Any]]]]:
    """Return the jaxprs of all steps, and the kind and the arrays of the batch of each.

    Anew until the dtypes of the state are those that steps return, and Python's numbers in it are static only if no
    step changes them: settings of a module are, a counter is not.
    """
    names = leaf_names(state, "state")
    numbers: set[int] = set()
    widths: dict[int, Any] = {}
    while True:
        leaves, arrays = Arrays.of(state, "state", numbers)
        array_names = [names[i] for i in arrays.positions]
        check_names(array_names)
        specs = [widths.get(i, spec_of(leaf)) for i, leaf in zip(arrays.positions, leaves, strict=True)]
        tracer = StepTracer(step, arrays, array_names, specs)
        kinds = [tracer.kind_of(*args, t) for t, args in enumerate(zip(batches, counts, strict=True))]
        if not tracer.changed and tracer.widened() == specs:
            return tracer, kinds
        numbers |= tracer.changed
        widths = dict(zip(arrays.positions, tracer.widened(), strict=True))


def import_step(
    step: Callable[[Any, Any, Any], Any], state: Any, batches: Sequence[Any], counts: Sequence[int]
) -> ImportedStep:
    """Import a training step; counts : the number of examples of each step.

    Raises
    ------
    InputError, ShapeError
        If the step does not return a state like the one it is given, or the weights reach no part of it.
    TraceError
        If weights reach something for which there is no gate.
    """
    tracer, kinds = trace_steps(step, state, batches, counts)
    arrays, names, specs = tracer.arrays, tracer.names, tracer.specs
    leaves = Arrays.of(state, "state", arrays.positions)[0]
    foreknowledge = Foreknowledge(leaves, list(tracer.kinds.values()))
    if not foreknowledge.reached:
        raise InputError("the state after a step does not depend on keep; multiply each example's loss by its entry")
    check_real(foreknowledge.reached, names, specs)
    known = {i: cast(leaves[i], specs[i]) for i in foreknowledge.known}
    paths: dict[tuple[StepKind, tuple[int, ...]], int] = {}
    data = []
    for kind, batch in kinds:
        decisions, met, known = foreknowledge.step(kind, known, batch)
        path = paths.setdefault((kind, decisions), len(paths))
        data.append({f"path{path}": [plain(value) for value in met]})
    by_name = {f"path{number}": path for path, number in paths.items()}
    layout = StateLayout(arrays, tuple(names), foreknowledge.reached, foreknowledge.fixed | known)

    def record_step(state: Any, batch: Any, keep: Any) -> Any:
        """Return the wires of the state after a step on the path that the batch names."""
        ((name, values),) = batch.items()
        before = dict(zip(layout.reached, flatten_up_to(layout.tree, state), strict=True))
        return layout.nest(foreknowledge.record(*by_name[name], before, values, keep))

    initial = layout.nest([np.asarray(leaves[i], np.float64) for i in layout.reached])
    return ImportedStep(record_step, initial, data, layout)


def check_real(reached: Sequence[int], names: Sequence[str], specs: Sequence[Any]) -> None:
    """Raise TraceError if weights reach complex numbers in the state."""
    if complex_ := [names[i] for i in reached if is_complex(specs[i])]:
        raise TraceError(
            f"the examples' weights reach {complex_[0]}, which has complex numbers; circuits compute on real numbers: "
            "carry real and imaginary parts as two arrays"
        )


def cast(leaf: Any, spec: Any) -> Any:
    """Return a leaf of the state as JAX's array of a dtype."""
    is_key = jnp.issubdtype(spec.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jnp.asarray(leaf, spec.dtype)
