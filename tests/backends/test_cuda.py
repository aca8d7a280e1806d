"""The CUDA backend without a GPU: its tests in Numba's simulator, its kernels as PTX, and what it says of the machine.

`tests/on_device.py` holds the tests that need a device or the simulator. What is not tested here: that the code runs on
a GPU (`pytest tests/on_device.py` where there is one), and how fast (`bench/gpu.py`).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from strategies import NAMES, application

import circuitsketch as cs
from circuitsketch.backends import cache
from circuitsketch.backends.contract import Phases
from circuitsketch.backends.cpu import executable as cpu
from circuitsketch.backends.cuda import device, executable
from circuitsketch.backends.cuda.codegen import DeviceCode
from circuitsketch.backends.cuda.contraction import write_contraction
from circuitsketch.backends.cuda.kernel_builder import CudaTarget
from circuitsketch.backends.cuda.tiling import Tile, list_tiles
from circuitsketch.errors import DeviceError, InputError
from circuitsketch.gates import GATES
from circuitsketch.lower.instructions import (
    ChainGate,
    ChainKernel,
    ChainOperand,
    ContractKernel,
    Instruction,
    Mode,
    MoveKernel,
)
from circuitsketch.lower.packing import ChainArguments, ContractArguments, MoveArguments
from circuitsketch.lower.tape import lower
from circuitsketch.zoo import microgpt

INSTALLED = importlib.util.find_spec("numba_cuda") is not None
WHY = "numba-cuda is not installed: pip install 'circuitsketch[cuda12]' (no GPU is needed)"
needs_package = pytest.mark.skipif(not INSTALLED, reason=WHY)
HERE = Path(__file__).parents[1]


@needs_package
def test_the_simulated_device_agrees_with_the_reference_and_the_cpu():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "on_device.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 2 * len(NAMES)


# PTX. A compiler is needed for it, and no GPU.


def compiler():
    """Skip where NVVM is not installed, and say so."""
    if not INSTALLED:
        pytest.skip(WHY)
    from numba.cuda.cudadrv import nvvm

    if not nvvm.is_available():
        pytest.skip("NVVM is not installed: pip install 'circuitsketch[cuda12]' (no GPU is needed)")


MODES = {
    "complex": (Mode(2, True), False),
    "real, single": (Mode(1, False), True),
    "values": (Mode(0, False, True), False),
}


@functools.cache
def every_gate(name: str) -> DeviceCode:
    """A program in which every gate, and with them every kind of kernel, is applied once."""
    mode, single = MODES[name]
    target = CudaTarget(mode, 4, single)
    instructions: list[Instruction] = []
    for gate in NAMES:
        one = application(gate, np.random.default_rng(1))
        circuit = cs.trace(one.with_moving, [np.asarray(x) for x in one.moving])
        tape = lower(circuit, range(len(circuit.inputs)), target.mode)
        linked = cpu.link([tape], target, len(circuit.inputs), False, Phases(0))
        instructions += [i for i in linked.instructions if i.kernel.phase == "lane"]
    return DeviceCode(instructions, target)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("name", MODES)
def test_every_gate_compiles_to_ptx_without_a_gpu(name, capability):
    compiler()
    from circuitsketch.backends.cuda.resources import compile_ptx

    program = every_gate(name)
    text = compile_ptx(program, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text
    assert f".maxntid {program.target.threads}" in text
    arithmetic = [line for line in text.splitlines() if "fma.rn" in line]
    assert arithmetic and all((".f32" if program.target.single else ".f64") in line for line in arithmetic)


def contractions(target: CudaTarget) -> list[Instruction]:
    """One with series on both sides and one with numbers on the left, large enough for the large tiles."""
    found = []
    for left in (True, False):
        kernel = ContractKernel("lane", left, True)
        args = (0,) * 6 + (1, 64, 64, 1) + (0,) * (5 + 2 * 64 + 2 * 64)
        found.append(Instruction(kernel, ContractArguments.unpack(args), None, ()))
    return found


@pytest.mark.parametrize(
    ("mode", "single", "capability"),
    [
        (Mode(1, True), False, (9, 0)),
        (Mode(2, True), False, (9, 0)),
        (Mode(3, True), False, (9, 0)),
        (Mode(3, True), False, (8, 0)),
        (Mode(3, True), True, (9, 0)),
        (Mode(3, True), True, (8, 0)),
        (Mode(3, False), False, (9, 0)),
        (Mode(4, True), False, (9, 0)),
        (Mode(8, True), False, (9, 0)),
        (Mode(0, False, True), False, (9, 0)),
        (Mode(0, False, True), False, (8, 0)),
    ],
)
def test_contractions_spill_no_registers(mode, single, capability):
    compiler()
    from circuitsketch.backends.cuda.resources import find_ptxas, measure_usages

    if find_ptxas() is None:
        pytest.skip("ptxas is not installed: it comes with circuitsketch[cuda12]")
    target = CudaTarget(mode, 4, single)
    program = DeviceCode(contractions(target), target)
    for left in (True, False):
        tile = list_tiles(ContractKernel("lane", left, True), target)[0]
        assert tile.rows * tile.columns * mode.components >= 8  # a tile worth its name
    found = measure_usages(program, capability)
    assert len(found) == 2
    for usage in found:
        assert usage.spilled == 0, usage
        assert usage.registers <= 65536 // target.threads


def test_a_spill_would_be_seen():
    """The check above can fail: a tile with three times the accumulators that the registers hold."""
    compiler()
    from circuitsketch.backends.cuda.resources import find_ptxas, measure_usages

    if find_ptxas() is None:
        pytest.skip("ptxas is not installed: it comes with circuitsketch[cuda12]")
    target = CudaTarget(Mode(3, True), 4)
    program = DeviceCode(contractions(target)[:1], target)
    large = write_contraction("contract_0", ContractKernel("lane", True, True), Tile(3, 4), target)
    program.source = program.source.replace(program.functions[0][1], large)
    assert measure_usages(program, (9, 0))[0].spilled > 0


def test_a_whole_training_assembles_for_a_multiprocessor():
    """microgpt's program, all functions in one kernel: registers for 512 threads, little spilled, little shared."""
    compiler()
    from circuitsketch.backends.cuda.resources import assemble, compile_ptx, find_ptxas

    run = microgpt.training(microgpt.names()[:3], seed=1)
    count = len(run.state_leaves)
    tapes = [lower(c, [*run.varying(), len(c.inputs) - 1], Mode(3), {i: i for i in range(count)}) for c in run.circuits]
    program = executable.link(tapes, CudaTarget(Mode(3), 4), count, True).program
    text = compile_ptx(program, (9, 0))
    assert "fma.rn.f64" in text
    if find_ptxas() is None:
        pytest.skip("ptxas is not installed: it comes with circuitsketch[cuda12]")
    usage = assemble("play", text, (9, 0))
    assert usage.registers <= 128
    assert usage.spilled <= 1024, usage  # what the interpreter keeps for the next instruction; 416 were seen
    assert usage.shared <= 16 << 10, usage


def test_chains_that_differ_in_their_innermost_steps_are_one_function():
    """What a CPU's vectors want to know would only be compiled twice here."""
    instructions = []
    for step in ("0", "1", "?"):
        operand = ChainOperand(True, True, step)
        kernel = ChainKernel("lane", (operand,), (ChainGate(GATES["copy"], (), (0,)),), ((0, 0),), (step,))
        instructions.append(Instruction(kernel, ChainArguments.unpack((1,) * 16, 2), None, ()))
    program = DeviceCode(instructions, CudaTarget(Mode(1, False), 2))
    assert program.opcodes == [0, 0, 0] and len(program.functions) == 1


def test_a_kernel_is_kept_on_disk_by_the_text_of_its_module(tmp_path, monkeypatch):
    """A device would compile it; here a record stands for what was compiled."""
    compiler()
    monkeypatch.setenv("CIRCUITSKETCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "warned", [])
    codegen = SimpleNamespace(magic_tuple=lambda: ("nvvm", (9, 0)))
    context = SimpleNamespace(codegen=lambda: codegen, refresh=lambda: None)

    def kept(width, name="play"):
        found = DeviceCode([], CudaTarget(Mode(1, False), width)).kernels[name]._cache
        found._impl = SimpleNamespace(
            check_cachable=lambda kernel: True, reduce=lambda kernel: kernel.number, rebuild=lambda context, data: data
        )
        return found

    kept(2).save_overload("types", SimpleNamespace(number=7, codegen=codegen))
    assert kept(2).load_overload("types", context) == 7
    assert kept(2).load_overload("other types", context) is None
    assert kept(2, "start").load_overload("types", context) is None
    assert kept(4).load_overload("types", context) is None  # another text
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.chmod(0o666)
    with pytest.warns(RuntimeWarning, match="other users may write"):
        assert kept(2).load_overload("types", context) is None


# What is said of the machine.


def test_importing_the_package_imports_no_cuda():
    code = "import sys, circuitsketch; print([m for m in sys.modules if m.startswith(('numba.cuda.', 'cuda.'))])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)
    assert found.stdout.strip() == "[]"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run = cs.Training(lambda s, x, keep: s + keep.sum() * x, np.zeros(()), [1.0], [[0]])
    sketch = cs.push(run, [[1.0]], 1)
    for act in (
        lambda: cs.compile(cs.trace(np.exp, 0.0), 1, device="cuda"),
        lambda: cs.push(run, [[1.0]], 1, device="cuda"),
        lambda: cs.sketch(run, 4, 1, device="cuda"),
        lambda: run.retrain([0], device="cuda"),
        lambda: sketch.measure(lambda s: s, device="cuda"),
        lambda: cs.local_sketch(np.exp, 0.0, 4, 1, device="cuda"),
    ):
        with pytest.raises(DeviceError, match=r"needs the package numba-cuda.*circuitsketch\[cuda12\].*device='cpu'"):
            act()


@needs_package
def test_a_missing_device_is_one_clear_error():
    from numba import cuda

    if cuda.is_available():
        assert device.find_device().multiprocessors > 0
        return
    looked = r"numba-cuda \([\d.]+, found\); the driver library libcuda and a device \(.+\); the compiler library NVVM"
    with pytest.raises(DeviceError, match=rf"NVIDIA GPU.*Looked for: {looked} \(.+\).*nvidia-smi.*'cpu'"):
        cs.compile(cs.trace(np.exp, 0.0), 1, device="cuda")


@needs_package
def test_driver_errors_become_device_errors_and_no_others_do():
    from numba.cuda.cudadrv.driver import CudaAPIError

    with pytest.raises(DeviceError, match="the device failed at playing a run:.*LAUNCH_TIMEOUT.*nvidia-smi"):
        with device.convert_errors("playing a run"):
            raise CudaAPIError(702, "Call to cuEventSynchronize results in CUDA_ERROR_LAUNCH_TIMEOUT")
    of_the_core = type("CUDAError", (Exception,), {"__module__": "cuda.core._utils.cuda_utils"})
    with pytest.raises(DeviceError, match="out of memory"):
        with device.convert_errors("taking memory"):
            raise of_the_core("out of memory")
    for other in (ValueError, KeyboardInterrupt, InputError):
        with pytest.raises(other), device.convert_errors("playing a run"):
            raise other


def test_directions_that_do_not_fit_are_pushed_in_waves_or_refused():
    card = device.Device("a card", (9, 0), 132, device.RESERVE + (10 << 30))
    assert device.plan_memory(card, 128, 50 << 20, 1 << 20, "lanes").blocks_per_wave == 128
    split = device.plan_memory(card, 500, 50 << 20, 1 << 20, "lanes")
    assert (split.blocks_per_wave, split.waves) == (167, 3)  # equal waves, of at most 184
    assert str(split) == "500 blocks in 3 waves of 167, 8.76 GB at a time of 9.66 GB available on a card"
    assert split.fixed + split.blocks_per_wave * split.bytes_per_block <= card.room
    assert device.plan_memory(card, 0, 1, 0, "lanes").blocks_per_wave == 1
    with pytest.raises(DeviceError, match="lanes need 21.47 GB.*a card.*complex64"):
        device.plan_memory(card, 1, 20 << 30, 0, "lanes")
    assert [card.choose_width(count) for count in (1, 512, 529, 4096, 10**6)] == [4, 4, 8, 32, 32]


def test_indices_that_single_precision_cannot_count_are_refused():
    gather = Instruction(MoveKernel("lane", "copy", "source"), MoveArguments.unpack((1,) * 28, True), None, ())
    host = lambda single, entries: SimpleNamespace(  # noqa: E731
        target=CudaTarget(Mode(1), 4, single), lane_end=entries, constant_end=10
    )
    with pytest.raises(InputError, match="indices up to 16,777,216.*complex128"):
        executable.check_indices_fit([gather], host(True, 20_000_000))
    executable.check_indices_fit([gather], host(True, 1000))
    executable.check_indices_fit([gather], host(False, 20_000_000))
    executable.check_indices_fit([], host(True, 20_000_000))
