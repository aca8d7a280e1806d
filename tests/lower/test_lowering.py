"""Lowering held against plain bookkeeping: addresses against NumPy's views, lifetimes counted again from what is read.

No kernel is compiled here; that the tapes compute the right numbers is told in test_kernels.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import instructions, random_step
from strategies import programs

import circuitsketch as cs
from circuitsketch.gates import cells
from circuitsketch.lower.chains import LENGTHS
from circuitsketch.lower.instructions import Mode
from circuitsketch.lower.layout import Layout, collapse
from circuitsketch.lower.operations import Move
from circuitsketch.lower.placement import place_buffers
from circuitsketch.lower.tape import lower
from circuitsketch.passes import simplify

seeds = st.integers(0, 2**32 - 1)
MODES = [Mode(0), Mode(2), Mode(0, complex=False, values=True)]


# Nothing is compiled here, so that many programs are soon looked at.
many = settings(max_examples=max(120, settings().max_examples))

# Layouts.


def elements(layout):
    """The element that each entry of a layout is, one by one."""
    found = np.empty(layout.shape, dtype=int)
    for at in np.ndindex(*layout.shape):
        found[at] = layout.offset + sum(i * step for i, step in zip(at, layout.strides, strict=True))
    return found


def random_view(rng, layout, view):
    """A transpose, slice or broadcast of a layout, and of an array of its element numbers."""
    rank = len(layout.shape)
    kind = rng.integers(3)
    if kind == 0:
        axes = tuple(int(a) for a in rng.permutation(rank))
        return layout.transpose(axes), view.transpose(axes)
    if kind == 1 and 0 not in layout.shape:
        starts = [int(rng.integers(n)) for n in layout.shape]
        steps = [int(rng.choice([1, 2, -1, -2])) for _ in range(rank)]
        index = tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))
        found = view[(*index, ...)]
        return layout.slice(tuple(starts), tuple(steps), found.shape), found
    shape = tuple(int(n) for n in rng.integers(1, 3, rng.integers(0, 2)))
    shape += tuple(int(rng.integers(1, 4)) if n == 1 else n for n in layout.shape)
    return layout.broadcast(shape), np.broadcast_to(view, shape)


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def some_view(shape, seed, count):
    """A layout of a buffer of this shape after some moves, NumPy's view of the element numbers, the generator."""
    rng = np.random.default_rng(seed)
    layout, view = Layout.contiguous(0, shape), np.arange(cells(shape)).reshape(shape)
    for _ in range(count):
        layout, view = random_view(rng, layout, view)
    return layout, view, rng


@many
@given(shape=shapes, seed=seeds, count=st.integers(0, 5))
def test_views_of_a_layout_address_the_elements_that_numpy_views_hold(shape, seed, count):
    layout, view, _ = some_view(shape, seed, count)
    assert layout.shape == view.shape
    assert np.array_equal(elements(layout), view)
    in_order = view.size == 0 or np.array_equal(view.ravel(), np.arange(view.size))
    assert view.size == 0 or layout.is_contiguous == in_order


def new_shapes(size):
    """All shapes of up to four axes and so many entries, with an axis of extent 1 here and there."""
    found = {(size,), (1, size), (size, 1)} | ({()} if size == 1 else set())
    for a in range(1, size + 1):
        if size % a == 0:
            found |= {(a, size // a), (a, 1, size // a)}
            found |= {(a, b, size // a // b) for b in range(1, size // a + 1) if size // a % b == 0}
    return sorted(found)


@many
@given(shape=shapes, seed=seeds, count=st.integers(0, 4))
def test_a_reshape_without_a_copy_is_found_exactly_where_numpy_finds_one(shape, seed, count):
    layout, view, _ = some_view(shape, seed, count)
    if view.size == 0:
        assert layout.reshape((0, 3)).shape == (0, 3)
        return
    for wanted in new_shapes(view.size):
        found, truth = layout.reshape(wanted), view.reshape(wanted)
        assert (found is not None) == np.shares_memory(truth, view), wanted
        if found is not None:
            assert found.shape == wanted
            assert np.array_equal(elements(found), truth)


@many
@given(
    shape=st.lists(st.integers(1, 3), max_size=4).map(tuple),
    seed=seeds,
    operands=st.integers(1, 3),
)
def test_collapsed_axes_walk_the_same_entries_in_the_same_order(shape, seed, operands):
    rng = np.random.default_rng(seed)
    strides = []
    for _ in range(operands):  # views of whole arrays, so that axes often lie one after the other
        layout, _ = random_view(rng, Layout.contiguous(0, shape), np.arange(cells(shape)).reshape(shape))
        fits = layout.shape == shape
        strides.append(layout.strides if fits else Layout.contiguous(0, shape).strides)
    thin, found = collapse(shape, strides)
    assert cells(thin) == cells(shape) and 1 not in thin
    for before, after in zip(strides, found, strict=True):
        one, two = Layout(0, 0, shape, before), Layout(0, 0, thin, after)
        assert np.array_equal(elements(one).ravel(), elements(two).ravel())
    whole, _ = collapse(shape, [Layout.contiguous(0, shape).strides] * operands)
    assert len(whole) <= 1


# Tapes of random programs and of random steps with a carried state.


def tape_of_program(program, mode):
    circuit = simplify(cs.trace(program, *program.inputs))
    varying = list(program.floats)[::2] if mode.components else []
    return lower(circuit, varying, mode), len(circuit.inputs)


def tape_of_step(code, results, mode):
    step = random_step((code, []), (results, results))
    state = tuple(np.zeros((2, 2)) for _ in results)
    circuit = simplify(cs.trace(step, state, np.zeros((2, 2)), np.zeros(4)))
    varying = [*range(len(results)), len(circuit.inputs) - 1] if mode.components else [len(circuit.inputs) - 1]
    return lower(circuit, varying, mode, {i: i for i in range(len(results))}), len(results)


def placed(tape):
    """The tape's inputs one after the other, as the linker lays them, and everything else placed."""
    inputs = {"constant": {}, "lane": {}}
    ends = {"constant": 0, "lane": 0}
    for position, layout in enumerate(tape.inputs):
        for phase in inputs:
            if phase == "constant" or tape.program.buffer_varies[layout.buffer]:
                inputs[phase][position] = ends[phase]
                ends[phase] += cells(layout.shape)
    placement, _ = place_buffers(tape, inputs, ends)
    return {"constant": dict(placement.constant), "lane": dict(placement.lane)}, inputs


def buffers_read(operation):
    """The buffers whose lanes, or values, an operation takes."""
    found = {layout.buffer for layout in operation.operands}
    for move in operation.moves:
        if isinstance(move, Move):
            found |= {move.source.buffer} | ({move.index.buffer} if move.index else set())
    return found - {operation.buffer}


def assert_tape_is_legal(tape):
    p = tape.program
    phases = ["constant", "lane"]
    for phase in phases:
        groups = tape.groups(phase)
        operations = [operation for group in groups for operation in group.operations]
        wanted = p.operations
        if phase == "lane" or tape.mode.values:
            lanes = phase == "lane"
            wanted = [o for o in p.operations if p.buffer_varies[o.buffer] == lanes and tape.mode.components]
        assert sorted(map(id, operations)) == sorted(map(id, wanted)), "every operation once"
        there = {layout.buffer for layout in tape.inputs} | set(p.constants)
        for group in groups:
            assert len(group.operations) <= LENGTHS[0][0] and (group.is_chain or len(group.operations) == 1)
            made_here = set()
            for operation in group.operations:
                for layout in operation.operands:  # what a chain passes on in registers is not another view of it
                    if layout.buffer in made_here:
                        assert layout.is_contiguous and layout.shape == group.shape
                made_here.add(operation.buffer)
                missing = buffers_read(operation) - there
                if phase == "lane":
                    missing = {b for b in missing if p.buffer_varies[b]}
                assert not missing, f"{operation.node.gate.name} reads {missing} before they are made"
                there |= {operation.buffer, *p.companions.get(operation.wire, ())}


def assert_lanes_find_their_constants(tape):
    """What the lane phase reads of the constant phase has a place there."""
    p = tape.program
    there = set(placed(tape)[0]["constant"]) | set(p.constants)
    for group in tape.lane_groups:
        for operation in group.operations:
            gate = operation.node.gate
            needed = set()
            if tape.mode.values:
                needed = {b for b in buffers_read(operation) if not p.buffer_varies[b]}
            elif gate.kind == "contraction" or (gate.kind == "elementwise" and gate.reads != "nothing"):
                needed = {layout.buffer for layout in operation.operands}
                if gate.reads == "all":
                    needed |= {operation.buffer, *p.companions.get(operation.wire, ())}
            assert needed <= there, f"{gate.name} reads constants {needed - there} that are kept nowhere"


def lifetimes(tape, phase, where):
    """(begin, end) of every placed buffer, as numbers of groups: from its writing to its last reading, inclusive."""
    p = tape.program
    groups = tape.groups(phase)
    begin = {layout.buffer: -1 for layout in tape.inputs if layout.buffer in where}
    end = dict(begin)
    for g, group in enumerate(groups):
        for operation in group.operations:
            for buffer in (operation.buffer, *p.companions.get(operation.wire, ())):
                begin.setdefault(buffer, g)
                end[buffer] = max(end.get(buffer, g), g)
            for buffer in buffers_read(operation):
                end[buffer] = max(end.get(buffer, g), g)
    for layout in tape.outputs:
        end[layout.buffer] = len(groups)
    if phase == "constant" and tape.mode.components:  # the lane phase and the look at domains come after it
        end = dict.fromkeys(end, len(groups))
    return {b: (begin[b], end[b]) for b in where if b in begin}


def assert_no_live_buffers_overlap(tape):
    where, _ = placed(tape)
    p = tape.program
    for phase in ("constant", "lane") if tape.mode.components else ("constant",):
        life = lifetimes(tape, phase, where[phase])
        groups = tape.groups(phase)
        listed = sorted(life)
        for i, one in enumerate(listed):
            for two in listed[:i]:
                a, b = where[phase][one], where[phase][two]
                if a + cells(p.shapes[one]) <= b or b + cells(p.shapes[two]) <= a:
                    continue
                if 0 in (cells(p.shapes[one]), cells(p.shapes[two])):
                    continue
                first, second = sorted((one, two), key=lambda buffer: life[buffer])
                if life[first][1] < life[second][0]:
                    continue
                assert life[first][1] == life[second][0], (phase, "both are needed", one, two)
                # A result in the place of an operand: right only entry by entry, in the same order.
                group = groups[life[second][0]]
                assert group.is_chain and a == b and p.shapes[one] == p.shapes[two]
                for operation in group.operations:
                    for layout in operation.operands:
                        if layout.buffer == first:
                            assert layout.is_contiguous and layout.shape == group.shape


def assert_state_survives_being_carried(tape):
    """The moves at a step's end, one after the other, never write over what a later one reads."""
    where, inputs = placed(tape)
    p = tape.program
    for phase in ("constant", "lane") if tape.mode.components else ("constant",):
        moves = []
        for output, position in tape.carry.items():
            new, target = tape.outputs[output], inputs[phase].get(position)
            if target is None or new.buffer not in where[phase] or not cells(new.shape):
                continue
            source = where[phase][new.buffer]
            if not (new.is_contiguous and source == target):
                span = cells(p.shapes[new.buffer])
                moves.append((range(source, source + span), range(target, target + cells(new.shape))))
        for i, (source, target) in enumerate(moves):
            assert not set(source) & set(target), "a move onto itself, entries in another order"
            for later, _ in moves[i + 1 :]:
                assert not set(target) & set(later), "written over before it was carried"


every_mode = pytest.mark.parametrize("mode", MODES, ids=["values", "series", "value lanes"])


@every_mode
@many
@given(program=programs(most=16, outputs=3))
def test_fusion_and_placement_of_random_programs_are_legal(program, mode):
    tape, _ = tape_of_program(program, mode)
    assert_tape_is_legal(tape)
    assert_lanes_find_their_constants(tape)
    assert_no_live_buffers_overlap(tape)


@every_mode
@many
@given(
    code=st.lists(instructions, min_size=4, max_size=24),
    results=st.lists(st.integers(0, 24), min_size=1, max_size=3),
)
def test_fusion_and_placement_of_random_steps_are_legal(code, results, mode):
    tape, _ = tape_of_step(code, results, mode)
    assert_tape_is_legal(tape)
    assert_lanes_find_their_constants(tape)
    assert_no_live_buffers_overlap(tape)
    assert_state_survives_being_carried(tape)


def test_a_layer_is_updated_before_the_gradients_of_the_layers_below_it_are_made():
    """So a gradient is read soon after it was made; and its place is free for the next."""
    layers = 4

    def step(state, x, keep):
        def loss(weights):
            h = x
            for w in weights:
                h = np.tanh(h @ w)
            return (keep * (h * h).sum(axis=-1)).mean()

        grads = cs.grad(loss)(state)
        return [w - 0.1 * g for w, g in zip(state, grads, strict=True)]

    weights = [np.ones((3, 3)) for _ in range(layers)]
    circuit = simplify(cs.trace(step, weights, np.ones((2, 3)), np.ones(2)))
    tape = lower(circuit, [*range(layers), layers + 1], Mode(3, True), {i: i for i in range(layers)})
    assert_tape_is_legal(tape)
    writer = {buffer: g for g, group in enumerate(tape.lane_groups) for buffer in group.members}
    updated = [writer[layout.buffer] for layout in tape.outputs]
    assert updated == sorted(updated, reverse=True)
    contractions = [g for g, group in enumerate(tape.lane_groups) if group.operations[0].kind == "contraction"]
    assert updated[1] < contractions[-1], "the second layer's update waits for the first layer's gradient"
    assert len(tape.in_place["lane"]) == layers
