"""Models to sketch, with their data: each a module of its own, written with the public API alone.

They are examples as much as tools: `from circuitsketch.zoo import microgpt`, or copy one and change it.
"""
