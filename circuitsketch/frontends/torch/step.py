"""Import a training step of PyTorch, gradient and optimiser included, as a step of wires.

In: a step (state, batch, keep) -> state of tensors, the initial state, and the batch and number of examples of every
step. Out: a step of wires, on the leaves of the state that weights reach, and batches of what wires meet of everything
else, which PyTorch computes in advance, step by step, random draws included.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch.fx import Node

from circuitsketch.arguments import call, quoted
from circuitsketch.errors import InputError, ShapeError, TraceError
from circuitsketch.frontends.imported import ImportedStep, explain_difference
from circuitsketch.frontends.torch.capture import capture
from circuitsketch.frontends.torch.program import Program, plain
from circuitsketch.frontends.torch.state import Leaves, StateLayout, check_names, tensor_of
from circuitsketch.tree import flatten_up_to


class Kinds:
    """The programs of a step, one per kind of batch: its structure, shapes and dtypes, and the number of examples."""

    def __init__(self, step: Callable[..., Any], state: Leaves, leaves: list[torch.Tensor]) -> None:
        self.step, self.state, self.leaves = step, state, leaves
        self.programs: dict[Any, Program] = {}

    def program(self, batch: Any, count: int, t: int) -> tuple[Program, list[torch.Tensor]]:
        """Return the program of a step on `count` examples, and the tensors of its batch."""
        numbers, structure = Leaves.of(batch, f"batches[{t}]")
        for leaf in structure.others.values():
            if not isinstance(leaf, bool | None):
                raise InputError(
                    f"batches[{t}] contains {quoted(leaf)}; a batch consists of tensors, arrays and numbers"
                )
        tensors = [tensor_of(number) for number in numbers]
        key = str(structure.structure), structure.key[1], tuple((x.shape, x.dtype) for x in tensors), count
        if key not in self.programs:
            self.programs[key] = self.capture(structure, tensors, count, t)
        return self.programs[key], tensors

    def capture(self, batch: Leaves, tensors: list[torch.Tensor], count: int, t: int) -> Program:
        """Return the program of a step: (state, batch, keep) to state, leaf by leaf."""
        before, values = len(self.leaves), len(tensors)

        def flat_step(*flat: torch.Tensor) -> list[torch.Tensor]:
            state, given = self.state.rebuild(flat[:before]), batch.rebuild(flat[before : before + values])
            return self.numbers_after(call(self.step, "step", state, given, flat[-1]), t)

        keep = torch.ones(count, dtype=torch.get_default_dtype())
        return Program(capture(flat_step, [*self.leaves, *tensors, keep]))

    def numbers_after(self, state: Any, t: int) -> list[torch.Tensor]:
        """Return the tensors of the state after a step, in the order of the state before it."""
        numbers, leaves = Leaves.of(state, "state")
        by_name = dict(zip(leaves.names, numbers, strict=True))
        if set(by_name) != set(self.state.names):
            raise InputError(
                f"step {t} returns {explain_difference(leaves.names, self.state.names)}; return a state of the same "
                "structure, without losses or metrics beside it"
            )
        results = []
        for name, before in zip(self.state.names, self.leaves, strict=True):
            after = by_name[name] if isinstance(by_name[name], torch.Tensor) else tensor_of(by_name[name])
            if after.shape != before.shape:
                shapes = f"{tuple(after.shape)}; the state has shape {tuple(before.shape)}"
                raise ShapeError(f"step {t} returns {name} of shape {shapes}")
            results.append(after)
        return results


def check_order(batches: Any) -> None:
    """Raise InputError for a DataLoader that draws the order of its rows by itself, so that no ids can be theirs."""
    if not isinstance(batches, torch.utils.data.DataLoader):
        return
    is_default = type(batches.batch_sampler) is torch.utils.data.BatchSampler or batches.batch_sampler is None
    if is_default and not isinstance(batches.sampler, torch.utils.data.SequentialSampler):
        raise InputError(
            f"batches is a DataLoader with a {type(batches.sampler).__name__}, whose rows come in an order of its own, "
            "and so not in that of examples; draw the order first, as in order = torch.randperm(n).split(size), and "
            "pass batches=DataLoader(data, batch_sampler=order) and examples=order"
        )


def find_reached(programs: Sequence[Program], count: int) -> tuple[int, ...]:
    """Return the leaves of the state that weights reach, at a first step or, through other leaves, at a later one."""
    reached: set[int] = set()
    while True:
        more = set(reached)
        for program in programs:
            nodes = program.find_reached([*sorted(reached), len(program.inputs) - 1])
            more |= {i for i, output in enumerate(program.outputs) if isinstance(output, Node) and output in nodes}
        if more == reached:
            return tuple(sorted(reached))
        reached = more


def import_step(
    step: Callable[[Any, Any, Any], Any],
    state: Any,
    batches: Sequence[Any],
    counts: Sequence[int],
    seed: int,
) -> ImportedStep:
    """Import a training step; counts : the number of examples of each step. seed : of the draws of all steps.

    Raises
    ------
    InputError, ShapeError
        If the step does not return a state like the one it is given, or the weights reach no part of it.
    TraceError
        If weights reach something for which there is no gate, or what is computed depends on the numbers in a tensor.
    """
    numbers, structure = Leaves.of(state, "state")
    for leaf in structure.others.values():
        if isinstance(leaf, torch.nn.Module | Generator):
            raise InputError(
                f"the state contains {quoted(leaf)}; a state consists of tensors and numbers: pass the parameters, "
                "{name: p.detach().clone() for name, p in model.named_parameters()}"
            )
    check_names(structure.names)
    leaves = [tensor_of(number) for number in numbers]
    kinds = Kinds(step, structure, leaves)
    steps = [kinds.program(*args, t) for t, args in enumerate(zip(batches, counts, strict=True))]
    programs = list(kinds.programs.values())
    reached = find_reached(programs, len(leaves))
    if not reached:
        raise InputError("the state after a step does not depend on keep; multiply each example's loss by its entry")
    if whole := [structure.names[i] for i in reached if not leaves[i].is_floating_point()]:
        raise TraceError(f"the examples' weights reach {whole[0]}, which are not floats and have no Taylor series")
    others = [i for i in range(len(leaves)) if i not in reached]
    fixed = {i: leaves[i] for i in others if all(program.outputs[i] is program.inputs[i] for program in programs)}
    for program in programs:
        program.divide([*reached, len(program.inputs) - 1], fixed)
    known = {i: leaves[i] for i in others if i not in fixed}
    data = []
    frontiers = [program.frontier for program in programs]
    names = {f"kind{number}": (program, frontiers[number]) for number, program in enumerate(programs)}
    name_of = {id(program): name for name, (program, _) in names.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for program, tensors in steps:
            given = known | {len(leaves) + i: tensor for i, tensor in enumerate(tensors)}
            values = program.foresee(given)
            frontier = names[name_of[id(program)]][1]
            data.append({name_of[id(program)]: [plain(values[node]) for node in frontier]})
            known = {i: after(program.outputs[i], program, values) for i in known}
    layout = StateLayout(structure, tuple(leaf.dtype for leaf in leaves), reached, fixed | known)

    def record_step(state: Any, batch: Any, keep: Any) -> Any:
        """Return the wires of the state after a step of the kind that the batch names."""
        ((name, values),) = batch.items()
        program, frontier = names[name]
        inputs = dict(zip(reached, flatten_up_to(layout.tree, state), strict=True)) | {len(program.inputs) - 1: keep}
        return layout.nest(program.record(inputs, dict(zip(frontier, values, strict=True)), reached))

    return ImportedStep(record_step, layout.nest([plain(leaves[i]) for i in reached]), data, layout)


def after(output: Any, program: Program, values: dict[Node, Any]) -> torch.Tensor:
    """Return a leaf of the state after a step that no weight reaches."""
    value = values.get(output, program.static.get(output)) if isinstance(output, Node) else output
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
