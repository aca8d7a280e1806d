"""The CUDA backend: a block of threads carries a few directions through a whole run; a CPU runs the constant phase.

Importing it needs no GPU and does not import CUDA; `device.find_device` does.
"""
