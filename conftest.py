"""What pytest does not collect: modules that import libraries that are not installed. Tests skip themselves."""

from importlib.util import find_spec

NEEDED = {
    "jax": ("circuitsketch/jax.py", "circuitsketch/frontends/jax", "tests/frontends/jax/jax_cases.py"),
    "flax": ("tests/frontends/jax/jax_networks.py",),
    "equinox": ("tests/frontends/jax/jax_networks.py",),
    "torch": ("circuitsketch/torch.py", "circuitsketch/frontends/torch", "tests/frontends/torch/torch_steps.py"),
}
collect_ignore = [path for library, paths in NEEDED.items() if find_spec(library) is None for path in paths]
