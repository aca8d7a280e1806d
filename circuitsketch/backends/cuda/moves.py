"""Write moves and fills as device functions: copy elements, or combine those that go to the same element.

A lane block is moved number by number, whatever it holds, so that adjacent threads have adjacent numbers. If several
elements go to the same one (a sum is an addition into a layout of stride 0, a scatter adds through indices that may
repeat), one thread combines all of them in order: without atomics, and with the same bits every time. A sum with fewer
numbers than threads is divided among threads and combined in shared memory. That is allocated at the launch, since in
Numba's simulator a function that allocates it may get one array per thread.
"""

from __future__ import annotations

from circuitsketch.backends.cuda.kernel_builder import CudaTarget, indent, write_dot, write_kernel, write_unravel
from circuitsketch.lower.instructions import MoveKernel
from circuitsketch.lower.packing import POSITIONS, FillArguments, MoveArguments, MoveSide

AT = MoveArguments.unpack(POSITIONS, has_index=True)  # the position of each field
CHOSEN = MoveArguments.unpack(POSITIONS, has_index=False, selects=True)
FILL = FillArguments.unpack(POSITIONS)


def write_fill(name: str, target: CudaTarget) -> str:
    """Write the device function of a fill."""
    unit = target.unit
    body = [
        f"first = args[at + {FILL.first}] * {unit}",
        f"value = args[at + {FILL.bits}].view(np.float64)",
        f"for i in range(thread, args[at + {FILL.count}] * {unit}, THREADS):",
        f"    lanes[first + i] = {'real(value)' if target.single else 'value'}",
    ]
    return write_kernel(name, "fill", body)


def write_move(name: str, kernel: MoveKernel, axes: int, target: CudaTarget) -> str:
    """Write the device function of a move over at most this many axes."""
    says = f"{kernel.combine}" + ("" if kernel.index == "none" else f", {kernel.index} by index")
    if kernel.combine == "copy":
        return write_kernel(name, says, write_copy(kernel, axes, target))
    if kernel.index == "target":
        return write_kernel(name, says, write_scatter(kernel, axes, target))
    if kernel.selects and not target.mode.values:
        return write_kernel(name, f"{says} of the constant terms", write_selection(axes, target))
    return write_kernel(name, says, write_reduction(kernel, axes, target))


def write_element(side: MoveSide, axes: int, names: list[str]) -> str:
    """Return the expression of an element number of the target, source or index, at these indices."""
    return f"args[at + {side.offset}] + {write_dot(names, side.strides[-axes:])}"


def write_index_step(axes: int, names: list[str]) -> str:
    """Return the expression of what the run-time index adds to an element number."""
    assert AT.index is not None
    where = f"address(args[at + {AT.index.offset}], now) + {write_dot(names, AT.index.strides[-axes:])}"
    return f"int(constants[{where}]) * args[at + {AT.step}]"


def write_copy(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """Write target = source, with one number per thread."""
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
    """Write the extents n of axes along which the target steps, and m of those along which elements are combined."""
    lines = []
    for a, (extent, stride) in enumerate(zip(AT.extents[-axes:], AT.target.strides[-axes:], strict=True)):
        lines.append(f"n{a} = args[at + {extent}]")
        lines.append(f"m{a} = n{a} if args[at + {stride}] == 0 else 1")
        lines.append(f"n{a} //= m{a}")
    kept, met = (" * ".join(f"{letter}{a}" for a in range(axes)) for letter in "nm")
    return [*lines, f"kept = {kept}", f"met = {met}"]


def write_indices(letter: str, number: str, axes: int) -> tuple[list[str], list[str]]:
    """Return the names of indices i of kept axes, or j of combined ones, and the lines that compute them."""
    names = [f"{'i' if letter == 'n' else 'j'}{a}" for a in range(axes)]
    return names, write_unravel(number, [f"{letter}{a}" for a in range(axes)], names)


def write_scatter(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """Write target[.., index[j], ..] += source[.., j, ..]: a thread has a number of the kept axes, and loops over j."""
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
    """Write the addition of a value, or the larger or smaller of both, or the one that is a NaN."""
    if kernel.combine == "add":
        return f"{old} = {old} + {value}"
    better = f"{value} >= {old}" if kernel.combine == "max" else f"{value} <= {old}"
    return f"{old} = {value} if {better} or {value} != {value} else {old}"


def write_selection(axes: int, target: CudaTarget) -> list[str]:
    """Write the copy of the last element whose constant term is the target's: a thread has a number of the target."""
    unit = target.unit
    (i, kept), (j, met) = write_indices("n", "entry", axes), write_indices("m", "rest", axes)
    to, of = (f"args[at + {first}]" for first in CHOSEN.constants)
    steps = {side: write_dot(j, getattr(AT, side).strides[-axes:]) for side in ("target", "source")}
    each = ["rest = met - 1 - k", *met, f"step = {steps['source']}"]
    each += ["if constants[address(first, now) + step] == value:"]
    each += [f"    lanes[index(to * {unit} + number)] = lanes[index((of + step) * {unit} + number)]", "    break"]
    body = [f"number = i % {unit}", f"entry = i // {unit}", *kept]
    body += [f"to = {write_element(AT.target, axes, i)}", f"of = {write_element(AT.source, axes, i)}"]
    body += [f"value = constants[address({to}, now) + {write_dot(i, AT.target.strides[-axes:])}]"]
    body += [f"first = {of} + {write_dot(i, AT.source.strides[-axes:])}", "for k in range(met):", *indent(each)]
    return [*write_axis_split(axes), f"for i in range(thread, kept * {unit}, THREADS):", *indent(body)]


def write_reduction(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """Write a sum or extremum: a thread has one number of the kept axes, or a part of what is combined in it."""
    unit = target.unit
    (i, kept), (j, met) = write_indices("n", "entry", axes), write_indices("m", "rest", axes)
    nothing = {"add": "0.0", "max": "-math.inf", "min": "math.inf"}[kernel.combine]
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
