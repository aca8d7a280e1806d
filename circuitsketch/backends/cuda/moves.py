"""Moves and fills as device functions: entries copied, or added up or maximised where several meet in one.

A lane block is moved number by number, whatever it holds, so neighbouring threads have neighbouring numbers. Where
entries meet (a sum is an addition into a layout of stride 0, a scatter adds through indices that may repeat), one
thread takes all that meet in its number, in order: no atomics, and the same bits every time. A sum with fewer numbers
than threads is shared out and put together in shared memory, which is asked for at the launch: Numba's simulator may
give two threads two arrays where a function asks for one.
"""

from __future__ import annotations

from circuitsketch.backends.cuda.kernel_builder import CudaTarget, indent, write_dot, write_kernel, write_unravel
from circuitsketch.lower.instructions import MoveKernel
from circuitsketch.lower.packing import POSITIONS, FillArguments, MoveArguments, MoveSide

AT = MoveArguments.unpack(POSITIONS, has_index=True)  # where each field lies
FILL = FillArguments.unpack(POSITIONS)


def write_fill(name: str, target: CudaTarget) -> str:
    """The device function of a fill."""
    unit = target.unit
    body = [
        f"first = args[at + {FILL.first}] * {unit}",
        f"value = args[at + {FILL.bits}].view(np.float64)",
        f"for i in range(thread, args[at + {FILL.count}] * {unit}, THREADS):",
        f"    lanes[first + i] = {'real(value)' if target.single else 'value'}",
    ]
    return write_kernel(name, "fill", body)


def write_move(name: str, kernel: MoveKernel, axes: int, target: CudaTarget) -> str:
    """The device functions of a move whose entries have no more than this many axes."""
    says = f"{kernel.combine}" + ("" if kernel.index == "none" else f", {kernel.index} by index")
    if kernel.combine == "copy":
        return write_kernel(name, says, write_copy(kernel, axes, target))
    if kernel.index == "target":
        return write_kernel(name, says, write_scatter(kernel, axes, target))
    return write_kernel(name, says, write_reduction(kernel, axes, target))


def write_element(side: MoveSide, axes: int, names: list[str]) -> str:
    """The element number of the target, source or index at some indices."""
    return f"args[at + {side.offset}] + {write_dot(names, side.strides[-axes:])}"


def write_index_step(axes: int, names: list[str]) -> str:
    """How far the run-time index moves an element number."""
    assert AT.index is not None
    where = f"address(args[at + {AT.index.offset}], now) + {write_dot(names, AT.index.strides[-axes:])}"
    return f"int(constants[{where}]) * args[at + {AT.step}]"


def write_copy(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """target = source, every number by a thread."""
    names = ["entry", *(f"i{a}" for a in range(1, axes))]
    extents = [f"args[at + {position}]" for position in AT.extents[-axes:]]
    body = [f"number = i % {target.unit}", f"entry = i // {target.unit}", *write_unravel("entry", extents, names)]
    body += [f"to = {write_element(AT.target, axes, names)}", f"of = {write_element(AT.source, axes, names)}"]
    if kernel.index != "none":
        body.append(f"{'of' if kernel.index == 'source' else 'to'} += {write_index_step(axes, names)}")
    body.append(f"lanes[index(to * {target.unit} + number)] = lanes[index(of * {target.unit} + number)]")
    count = " * ".join(extents)
    return [f"for i in range(thread, {count} * {target.unit}, THREADS):", *indent(body)]


def write_axis_split(axes: int) -> list[str]:
    """Every axis is either kept (the target steps along it: extent n), or one along which entries meet (extent m)."""
    lines = []
    for a, (extent, stride) in enumerate(zip(AT.extents[-axes:], AT.target.strides[-axes:], strict=True)):
        lines.append(f"n{a} = args[at + {extent}]")
        lines.append(f"m{a} = n{a} if args[at + {stride}] == 0 else 1")
        lines.append(f"n{a} //= m{a}")
    kept, met = (" * ".join(f"{letter}{a}" for a in range(axes)) for letter in "nm")
    return [*lines, f"kept = {kept}", f"met = {met}"]


def write_indices(letter: str, number: str, axes: int) -> tuple[list[str], list[str]]:
    """Indices i of the kept axes, or j of the others, and the lines that find them."""
    names = [f"{'i' if letter == 'n' else 'j'}{a}" for a in range(axes)]
    return names, write_unravel(number, [f"{letter}{a}" for a in range(axes)], names)


def write_scatter(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """target[.., index[j], ..] += source[.., j, ..]: a thread has one number of the kept axes and walks all j."""
    unit = target.unit
    (i, kept), (j, met) = write_indices("n", "entry", axes), write_indices("m", "rest", axes)
    each = ["rest = k", *met, f"to = goal + {write_index_step(axes, j)}"]
    each += [f"of = source + {write_dot(j, AT.source.strides[-axes:])}"]
    each.append(write_combine(kernel, f"lanes[to * {unit} + number]", f"lanes[of * {unit} + number]"))
    body = [f"number = i % {unit}", f"entry = i // {unit}", *kept]
    body += [f"goal = {write_element(AT.target, axes, i)}", f"source = {write_element(AT.source, axes, i)}"]
    body += ["for k in range(met):", *indent(each)]
    return [*write_axis_split(axes), f"for i in range(thread, kept * {unit}, THREADS):", *indent(body)]


def write_combine(kernel: MoveKernel, old: str, value: str) -> str:
    """One entry more."""
    return f"{old} = {old} + {value}" if kernel.combine == "add" else f"{old} = {value} if {value} >= {old} else {old}"


def write_reduction(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """A thread has one number of the kept axes, or a part of what meets in it."""
    unit = target.unit
    (i, kept), (j, met) = write_indices("n", "entry", axes), write_indices("m", "rest", axes)
    nothing = "0.0" if kernel.combine == "add" else "-math.inf"
    each = ["rest = k", *met, f"of = source + {write_dot(j, AT.source.strides[-axes:])}"]
    each += [f"value = lanes[index(of * {unit} + number)]", write_combine(kernel, "total", "value")]
    body = [f"number = i % {unit}", f"entry = i % numbers // {unit}", *kept]
    body += [
        f"to = ({write_element(AT.target, axes, i)}) * {unit} + number",
        f"source = {write_element(AT.source, axes, i)}",
    ]
    body += [f"total = real({nothing})", "for k in range(i // numbers, met, parts):", *indent(each)]
    body += ["if parts == 1:", f"    {write_combine(kernel, 'lanes[to]', 'total')}", "else:", "    shared[i] = total"]
    lines = ["value = shared[i]", write_combine(kernel, "total", "value")]
    return [
        *write_axis_split(axes),
        f"numbers = kept * {unit}",
        "parts = max(min(THREADS // numbers, met), 1)",
        "shared = cuda.shared.array(0, shared_type)",
        "to = 0",
        f"total = real({nothing})",
        "for i in range(thread, numbers * parts, THREADS):",
        *indent(body),
        "if parts > 1:",
        "    cuda.syncthreads()",
        "    if thread < numbers:",
        "        for i in range(thread + numbers, numbers * parts, numbers):",
        *indent(indent(indent(lines))),
        f"        {write_combine(kernel, 'lanes[to]', 'total')}",
        "    cuda.syncthreads()",
    ]
