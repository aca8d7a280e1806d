"""Arguments of instructions: what is packed is read back, and every field knows where it lies."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from circuitsketch.lower.packing import (
    CHAIN_AXES,
    MOVE_AXES,
    POSITIONS,
    ChainArguments,
    ChainSide,
    ContractArguments,
    ContractSide,
    FillArguments,
    MoveArguments,
    MoveSide,
    pack_all,
)

integers = st.integers(-(2**62), 2**62)
chain_axes = st.tuples(*[integers] * CHAIN_AXES)
move_axes = st.tuples(*[integers] * MOVE_AXES)
chains = st.builds(
    ChainArguments, chain_axes, st.lists(st.builds(ChainSide, integers, integers, chain_axes)).map(tuple)
)
move_sides = st.builds(MoveSide, integers, move_axes)
moves = st.builds(MoveArguments, move_axes, move_sides, move_sides)
gathers = st.builds(MoveArguments, move_axes, move_sides, move_sides, move_sides, integers)
fills = st.builds(FillArguments, integers, integers, integers)
contract_sides = st.builds(ContractSide, integers, integers)


@st.composite
def contractions(draw):
    sides = [draw(contract_sides) for _ in range(3)]
    extent = {name: draw(st.integers(0, 4)) for name in ("batches", "rows", "columns", "summed")}
    lengths = ContractArguments.TABLES.values()
    tables = [draw(st.lists(integers, min_size=extent[n], max_size=extent[n])) for n in lengths]
    return ContractArguments(*sides, tuple(map(tuple, tables)))


def unpacked(record, args):
    match record:
        case ChainArguments():
            return ChainArguments.unpack(args, len(record.sides))
        case ContractArguments():
            return ContractArguments.unpack(args)
        case MoveArguments():
            return MoveArguments.unpack(args, record.index is not None)
        case _:
            return FillArguments.unpack(args)


@given(record=st.one_of(chains, contractions(), moves, gathers, fills))
def test_packed_arguments_are_read_back(record):
    assert unpacked(record, record.pack()) == record


@given(record=st.one_of(chains, moves, gathers, fills))
def test_a_field_unpacked_from_positions_is_its_place_among_the_integers(record):
    args, at = record.pack(), unpacked(record, POSITIONS)
    if isinstance(record, FillArguments):
        pairs = [(record.count, at.count), (record.bits, at.bits)]
    elif isinstance(record, ChainArguments):
        pairs = list(zip(record.extents, at.extents, strict=True))
        for side, places in zip(record.sides, at.sides, strict=True):
            pairs += [(side.constant, places.constant), (side.lane, places.lane)]
            pairs += zip(side.strides, places.strides, strict=True)
    else:
        pairs = [(record.target.offset, at.target.offset), (record.step, at.step)]
        pairs += zip(record.source.strides, at.source.strides, strict=True)
    assert all(place is None or args[place] == value for value, place in pairs)


@given(record=contractions())
def test_a_contractions_tables_follow_its_sides_and_extents_in_the_order_of_their_names(record):
    args = record.pack()
    left, right, result, extents = ContractArguments.unpack_head(POSITIONS)
    assert [args[side.lane] for side in (left, right, result)] == [
        record.left.lane,
        record.right.lane,
        record.result.lane,
    ]
    assert [args[at] for at in extents.values()] == [record.extent(name) for name in extents]
    begin = ContractArguments.HEAD
    for name, length in ContractArguments.TABLES.items():
        end = begin + args[extents[length]]
        assert args[begin:end] == record.table(name)
        begin = end
    assert begin == len(args)


@given(records=st.lists(st.one_of(chains, contractions(), gathers, fills)))
def test_several_records_are_packed_one_after_the_other(records):
    args, starts = pack_all(records)
    assert args.dtype == np.int64 and len(starts) == len(records)
    for record, start in zip(records, starts.tolist(), strict=True):
        assert unpacked(record, args[start:].tolist()) == record


def test_a_record_with_another_field_has_other_integers():
    one = FillArguments(1, 2, 3)
    assert one.pack() != replace(one, bits=4).pack()
