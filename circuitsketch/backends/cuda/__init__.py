"""The CUDA backend: a block of threads carries a few directions through a whole run; the constant phase stays a CPU's.

Importing it needs no GPU and imports no CUDA: that happens when a device is asked for (`device.find_device`).
"""
