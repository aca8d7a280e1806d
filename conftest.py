"""What pytest does not collect: the front end of a library that is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["circuitsketch/torch.py", "circuitsketch/frontends/torch"]
