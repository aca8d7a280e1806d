"""Arrays kept in a folder as they are finished, so that an interrupted computation resumes.

In: a folder, what identifies the computation, arrays by name. Out: the arrays of an earlier attempt. Each is a NumPy
file of its own, written at once, and read without unpickling, with a sha256 after its numbers; a folder of another
computation, and a file that was changed, are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from circuitsketch.errors import StoreError
from circuitsketch.store.atomic_files import (
    BadFile,
    absolute_path,
    exists,
    explain_access_errors,
    explain_read_errors,
    explain_write_errors,
    read_text,
    size_error,
    write_atomically,
)
from circuitsketch.store.checkpoints import CHECKPOINT, Checkpoints
from circuitsketch.store.objects import FileObjects

ABOUT, MAX_ABOUT = "about.json", 1 << 16
MAX_HEADER = 1 << 12  # bytes of a NumPy file besides its numbers
DIGEST = 32  # bytes at its end, which NumPy's reader passes over


class KeptArrays:
    """A folder of float64 arrays, by name.

    Parameters
    ----------
    path : str or path
        The folder; it is made if it does not exist.
    about : dict
        What identifies the computation, as JSON values.

    Raises
    ------
    StoreError
        If the folder holds something else, or cannot be read or written.
    """

    def __init__(self, path: Any, about: dict[str, Any]) -> None:
        self.folder = absolute_path(path)
        text = (json.dumps(about, sort_keys=True) + "\n").encode()
        file = os.path.join(self.folder, ABOUT)
        with explain_access_errors(self.folder):
            is_old = exists(file)
        if not is_old:
            with explain_write_errors(self.folder):
                os.makedirs(self.folder, exist_ok=True)
                if any(not name.startswith(ABOUT) for name in os.listdir(self.folder)):
                    raise StoreError(f"{self.folder} contains other files; choose an empty or a new folder")
                write_atomically(file, text, self.folder)
        with explain_read_errors(file, "choose another folder"):
            same = read_text(file, MAX_ABOUT, self.folder) == text
        if not same:
            raise StoreError(
                f"{self.folder} contains results of a different run or measurement, or of a different version of "
                "circuitsketch; choose another folder"
            )

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return an array, or None if it was not written yet; StoreError if its file was changed."""
        file = self.path_of(name)
        with explain_access_errors(file):
            if not exists(file):
                return None
        expected = 8 * int(np.prod(shape, dtype=int))
        with explain_read_errors(file, "delete it and call again with the same folder"):
            data = read_text(file, expected + MAX_HEADER, self.folder)
            if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
                raise BadFile(f"{file} is damaged: it does not match its digest")
            try:
                array = np.load(BytesIO(data), allow_pickle=False)
            except (ValueError, EOFError) as reason:
                raise BadFile(f"{file} is damaged ({reason})") from None
            if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.shape != shape:
                raise size_error(file, len(data), expected)
        return array

    def write(self, name: str, array: np.ndarray) -> None:
        """Write an array; after a crash its file is absent or complete."""
        data = BytesIO()
        np.save(data, np.ascontiguousarray(array, dtype=np.float64), allow_pickle=False)
        file = self.path_of(name)
        with explain_write_errors(file):
            write_atomically(file, data.getvalue() + hashlib.sha256(data.getvalue()).digest(), self.folder)

    def checkpoints(self, name_of: Callable[[int], str]) -> Checkpoints:
        """Return the checkpoints of blocks, each of which its name identifies."""
        return Checkpoints(
            FileObjects(self.folder),
            lambda block: name_of(block) + CHECKPOINT,
            lambda block: name_of(block).encode(),
        )

    def path_of(self, name: str) -> str:
        """Return the path of an array's file."""
        return os.path.join(self.folder, f"{name}.npy")
