"""Moves and fills as device functions: entries copied, or added up or maximised where several meet in one.

A lane block is moved number by number, whatever it holds, so neighbouring threads have neighbouring numbers. Where
entries meet (a sum is an addition into a layout of stride 0, a scatter adds through indices that may repeat), one
thread takes all that meet in its number, in order: no atomics, and the same bits every time. A sum with fewer numbers
than threads is shared out and put together in shared memory, which is asked for at the launch: Numba's simulator may
give two threads two arrays where a function asks for one.
"""

from __future__ import annotations

from circuitsketch.backends.cuda.target import CudaTarget, dotted, indented, kernel_function, unravelled
from circuitsketch.lower.instructions import MoveKernel
from circuitsketch.lower.packing import POSITIONS, FillArguments, MoveArguments, MoveSide

AT = MoveArguments.unpack(POSITIONS, has_index=True)  # where each field lies
FILL = FillArguments.unpack(POSITIONS)


def fill_function(name: str, target: CudaTarget) -> str:
    """The device function of a fill."""
    unit = target.unit
    body = [
        f"first = args[at + {FILL.first}] * {unit}",
        f"value = args[at + {FILL.bits}].view(np.float64)",
        f"for i in range(thread, args[at + {FILL.count}] * {unit}, THREADS):",
        f"    lanes[first + i] = {'real(value)' if target.single else 'value'}",
    ]
    return kernel_function(name, "fill", body)


def move_function(name: str, kernel: MoveKernel, axes: int, target: CudaTarget) -> str:
    """The device functions of a move whose entries have no more than this many axes."""
    says = f"{kernel.combine}" + ("" if kernel.index == "none" else f", {kernel.index} by index")
    if kernel.combine == "copy":
        return kernel_function(name, says, copy_body(kernel, axes, target))
    if kernel.index == "target":
        return kernel_function(name, says, scatter_body(kernel, axes, target))
    return kernel_function(name, says, meet_body(kernel, axes, target))


def element(side: MoveSide, axes: int, names: list[str]) -> str:
    """The element number of the target, source or index at some indices."""
    return f"args[at + {side.offset}] + {dotted(names, side.strides[-axes:])}"


def jump(axes: int, names: list[str]) -> str:
    """How far the run-time index moves an element number."""
    assert AT.index is not None
    where = f"address(args[at + {AT.index.offset}], now) + {dotted(names, AT.index.strides[-axes:])}"
    return f"int(constants[{where}]) * args[at + {AT.step}]"


def copy_body(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """target = source, every number by a thread."""
    names = ["entry", *(f"i{a}" for a in range(1, axes))]
    extents = [f"args[at + {position}]" for position in AT.extents[-axes:]]
    body = [f"number = i % {target.unit}", f"entry = i // {target.unit}", *unravelled("entry", extents, names)]
    body += [f"to = {element(AT.target, axes, names)}", f"of = {element(AT.source, axes, names)}"]
    if kernel.index != "none":
        body.append(f"{'of' if kernel.index == 'source' else 'to'} += {jump(axes, names)}")
    body.append(f"lanes[index(to * {target.unit} + number)] = lanes[index(of * {target.unit} + number)]")
    count = " * ".join(extents)
    return [f"for i in range(thread, {count} * {target.unit}, THREADS):", *indented(body)]


def kept_and_met(axes: int) -> list[str]:
    """Every axis is either kept (the target steps along it: extent n), or one along which entries meet (extent m)."""
    lines = []
    for a, (extent, stride) in enumerate(zip(AT.extents[-axes:], AT.target.strides[-axes:], strict=True)):
        lines.append(f"n{a} = args[at + {extent}]")
        lines.append(f"m{a} = n{a} if args[at + {stride}] == 0 else 1")
        lines.append(f"n{a} //= m{a}")
    kept, met = (" * ".join(f"{letter}{a}" for a in range(axes)) for letter in "nm")
    return [*lines, f"kept = {kept}", f"met = {met}"]


def among(letter: str, number: str, axes: int) -> tuple[list[str], list[str]]:
    """Indices i of the kept axes, or j of the others, and the lines that find them."""
    names = [f"{'i' if letter == 'n' else 'j'}{a}" for a in range(axes)]
    return names, unravelled(number, [f"{letter}{a}" for a in range(axes)], names)


def scatter_body(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """target[.., index[j], ..] += source[.., j, ..]: a thread has one number of the kept axes and walks all j."""
    unit = target.unit
    (i, kept), (j, met) = among("n", "entry", axes), among("m", "rest", axes)
    each = ["rest = k", *met, f"to = goal + {jump(axes, j)}"]
    each += [f"of = source + {dotted(j, AT.source.strides[-axes:])}"]
    each.append(combined(kernel, f"lanes[to * {unit} + number]", f"lanes[of * {unit} + number]"))
    body = [f"number = i % {unit}", f"entry = i // {unit}", *kept]
    body += [f"goal = {element(AT.target, axes, i)}", f"source = {element(AT.source, axes, i)}"]
    body += ["for k in range(met):", *indented(each)]
    return [*kept_and_met(axes), f"for i in range(thread, kept * {unit}, THREADS):", *indented(body)]


def combined(kernel: MoveKernel, old: str, value: str) -> str:
    """One entry more."""
    return f"{old} = {old} + {value}" if kernel.combine == "add" else f"{old} = {value} if {value} >= {old} else {old}"


def meet_body(kernel: MoveKernel, axes: int, target: CudaTarget) -> list[str]:
    """A thread has one number of the kept axes, or a part of what meets in it."""
    unit = target.unit
    (i, kept), (j, met) = among("n", "entry", axes), among("m", "rest", axes)
    nothing = "0.0" if kernel.combine == "add" else "-math.inf"
    each = ["rest = k", *met, f"of = source + {dotted(j, AT.source.strides[-axes:])}"]
    each += [f"value = lanes[index(of * {unit} + number)]", combined(kernel, "total", "value")]
    body = [f"number = i % {unit}", f"entry = i % numbers // {unit}", *kept]
    body += [f"to = ({element(AT.target, axes, i)}) * {unit} + number", f"source = {element(AT.source, axes, i)}"]
    body += [f"total = real({nothing})", "for k in range(i // numbers, met, parts):", *indented(each)]
    body += ["if parts == 1:", f"    {combined(kernel, 'lanes[to]', 'total')}", "else:", "    shared[i] = total"]
    together = ["value = shared[i]", combined(kernel, "total", "value")]
    return [
        *kept_and_met(axes),
        f"numbers = kept * {unit}",
        "parts = max(min(THREADS // numbers, met), 1)",
        "shared = cuda.shared.array(0, shared_type)",
        "to = 0",
        f"total = real({nothing})",
        "for i in range(thread, numbers * parts, THREADS):",
        *indented(body),
        "if parts > 1:",
        "    cuda.syncthreads()",
        "    if thread < numbers:",
        "        for i in range(thread + numbers, numbers * parts, numbers):",
        *indented(indented(indented(together))),
        f"        {combined(kernel, 'lanes[to]', 'total')}",
        "    cuda.syncthreads()",
    ]
