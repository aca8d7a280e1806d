"""The CUDA backend without a GPU: its tests in Numba's simulator, its kernels as PTX, and what it says of the machine.

`tests/on_device.py` holds the tests that need a device or the simulator. What is not tested here: that the code runs on
a GPU, and how fast (`bench/gpu.py`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import NAMES, application

import circuitsketch as cs
from circuitsketch.errors import DeviceError
from circuitsketch.kernels.cpu import executable as cpu
from circuitsketch.kernels.cuda import device
from circuitsketch.kernels.cuda.contract import tiles
from circuitsketch.kernels.cuda.frame import CudaTarget
from circuitsketch.kernels.cuda.program import Program
from circuitsketch.lower.tape import ContractKernel, Instruction, Mode, lower

INSTALLED = importlib.util.find_spec("numba_cuda") is not None
needs_package = pytest.mark.skipif(
    not INSTALLED, reason="numba-cuda is not installed: pip install 'circuitsketch[cuda12]' (no GPU is needed)"
)
HERE = Path(__file__).parent


@needs_package
def test_the_simulated_device_agrees_with_the_reference_and_the_cpu():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(HERE / "on_device.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def instructions_of(name: str, target: CudaTarget) -> list[Instruction]:
    """The lane phase of a gate applied once."""
    one = application(name, np.random.default_rng(1))
    circuit = cs.trace(one.with_moving, [np.asarray(x) for x in one.moving])
    tape = lower(circuit, range(len(circuit.inputs)), target.mode)
    linked = cpu.link([tape], target, len(circuit.inputs), False, address=lambda *_: 0)
    return [i for i in linked.instructions if i.kernel.phase == "lane"]


@needs_package
@pytest.mark.parametrize(
    ("mode", "single", "capability"),
    [
        (Mode(2, True), False, (9, 0)),
        (Mode(1, False), True, (8, 0)),
        (Mode(0, False, True), False, (8, 0)),
    ],
)
def test_every_gate_compiles_to_ptx_without_a_gpu(mode, single, capability):
    from circuitsketch.kernels.cuda.resources import ptx_of

    target = CudaTarget(mode, 4, single)
    program = Program([i for name in NAMES for i in instructions_of(name, target)], target)
    text = ptx_of(program, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text
    assert f".maxntid {target.threads}" in text
    arithmetic = [line for line in text.splitlines() if "fma.rn" in line]
    assert arithmetic and all((".f32" if single else ".f64") in line for line in arithmetic)


@needs_package
@pytest.mark.parametrize(
    ("mode", "single", "capability"),
    [
        (Mode(1, True), False, (9, 0)),
        (Mode(3, True), False, (8, 0)),
        (Mode(3, True), False, (9, 0)),
        (Mode(3, True), True, (9, 0)),
        (Mode(3, False), False, (9, 0)),
        (Mode(8, True), False, (9, 0)),
        (Mode(0, False, True), False, (9, 0)),
    ],
)
def test_contractions_spill_no_registers(mode, single, capability):
    from circuitsketch.kernels.cuda.resources import find_ptxas, usages

    if find_ptxas() is None:
        pytest.skip("ptxas is not installed: it comes with circuitsketch[cuda12]")
    target = CudaTarget(mode, 4, single)
    instructions = []
    for left in (True, False):
        kernel = ContractKernel("lane", left, True)
        rows, columns, tile = 64, 64, tiles(kernel, target)[0]
        args = (0,) * 6 + (1, rows, columns, 1) + (0,) * (5 + 2 * rows + 2 * columns)
        instructions.append(Instruction(kernel, args, None, ()))
        assert tile.rows * tile.columns * max(mode.components, 1) >= 8  # a tile worth its name
    for usage in usages(Program(instructions, target), capability):
        assert usage.spilled == 0, usage
        assert usage.registers <= 65536 // target.threads


# What is said of the machine.


def test_importing_the_package_imports_no_cuda():
    code = "import sys, circuitsketch; print([m for m in sys.modules if m.startswith('numba.cuda.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)
    assert found.stdout.strip() == "[]"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"needs the package numba-cuda.*circuitsketch\[cuda12\].*device='cpu'"):
        cs.compile(cs.trace(np.exp, 0.0), 1, device="cuda")


@needs_package
def test_a_missing_device_is_one_clear_error(monkeypatch):
    from numba import cuda

    if not cuda.is_available():
        with pytest.raises(DeviceError, match=r"NVIDIA GPU.*numba-cuda [\d.]+ \(found\).*libcuda.*nvidia-smi.*'cpu'"):
            cs.compile(cs.trace(np.exp, 0.0), 1, device="cuda")
    else:
        assert device.find().multiprocessors > 0
