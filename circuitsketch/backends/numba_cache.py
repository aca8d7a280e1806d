"""Store what Numba compiles in the cache of kernels, under the same rules of trust.

In: a function that Numba compiles when it is called. Out: the same function with a cache. Numba's own cache is beside
the source, in HOME or in NUMBA_CACHE_DIR; it fails where none of these is writable, and it unpickles, and so executes,
any file that it finds there.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba

from circuitsketch.backends.cache import locate_cache, make_key, read, write


def attach_cache(dispatcher: Any, base: Any, dumps: Callable[[Any], bytes], *about: str) -> None:
    """Give a function a cache for its machine code.

    Parameters
    ----------
    dispatcher : Any
        The result of numba.jit or cuda.jit.
    base : Any
        The class of Numba's cache for it.
    dumps : callable
        How Numba pickles the contents of such a cache.
    about : str
        What else the code depends on, apart from its types, Numba and the processor: the source, options.
    """
    with suppress(Exception):  # with a Numba whose caches are built another way there is none
        dispatcher._cache = make_cache_class(base, dumps)(*about)


def make_cache_class(base: Any, dumps: Callable[[Any], bytes]) -> Any:
    """Return a class of caches like `base` that reads and writes files through `cache`."""

    class Cache(base):
        """The machine code of a function, by the types of its arguments."""

        def __init__(self, *about: str) -> None:
            # Numba's own constructors look for a folder, and there is none for a source in memory or without a HOME.
            self._impl = object.__new__(base._impl_class)
            self._about = (*about, numba.__version__, sys.version)
            self._launch_config_key = None
            self._launch_config_sensitive_flag = False
            self.enable()

        @property
        def cache_path(self) -> str:
            return str(locate_cache())

        def key(self, sig: Any, codegen: Any) -> str:
            return make_key(
                "numba", *self._about, repr(sig), repr(codegen.magic_tuple()), repr(self._launch_config_key)
            )

        def _load_overload(self, sig: Any, target_context: Any) -> Any:
            with suppress(Exception):  # not what was written: compiled again
                data = read(self.key(sig, target_context.codegen())) if self._enabled else None
                return None if data is None else self._impl.rebuild(target_context, pickle.loads(data))

        def _save_overload(self, sig: Any, data: Any) -> None:
            with suppress(Exception):
                if self._enabled and self._impl.check_cachable(data):
                    write(self.key(sig, data.codegen), dumps(self._impl.reduce(data)))

        def mark_launch_config_sensitive(self) -> bool:
            """Return whether stored code depends on how it is launched: no."""
            return False

        def flush(self) -> None:
            """Do nothing: a file's name says what it contains."""

    return Cache
