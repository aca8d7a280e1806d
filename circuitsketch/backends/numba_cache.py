"""What Numba compiles by itself, kept with our kernels and as carefully as they are.

In: a function that Numba compiles when it is called. Out: the same, with a cache. Numba's own cache lies beside the
source, in HOME or in NUMBA_CACHE_DIR; it refuses to work where none of these can be written, and unpickles, and so
executes, whatever it finds there.
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
    """Let a function's machine code be kept.

    Parameters
    ----------
    dispatcher : what numba.jit or cuda.jit returned. base : the class of Numba's cache for it.
    dumps : how Numba pickles what such a cache holds.
    about : all that the code depends on beside its types, Numba and the processor: the source, options.
    """
    with suppress(Exception):  # with a Numba whose caches are built another way there is none
        dispatcher._cache = make_cache_class(base, dumps)(*about)


def make_cache_class(base: Any, dumps: Callable[[Any], bytes]) -> Any:
    """A class of caches like `base`, but for where and how files are read and written."""

    class Cache(base):
        """A function's machine code by the types of its arguments."""

        def __init__(self, *about: str) -> None:
            # Numba's own constructors look for a place for files, and find none in memory or without a HOME.
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
            with suppress(Exception):  # not what was written: compiled anew
                data = read(self.key(sig, target_context.codegen())) if self._enabled else None
                return None if data is None else self._impl.rebuild(target_context, pickle.loads(data))

        def _save_overload(self, sig: Any, data: Any) -> None:
            with suppress(Exception):
                if self._enabled and self._impl.check_cachable(data):
                    write(self.key(sig, data.codegen), dumps(self._impl.reduce(data)))

        def mark_launch_config_sensitive(self) -> bool:
            """Whether code is kept that depends on how it is launched: no."""
            return False

        def flush(self) -> None:
            """Forget nothing: a file's name says what it holds."""

    return Cache
