"""How a page shows examples: items and labels as text, small images as PNG.

In: what a run says of its examples. Out: one text per example, and pictures as `data:` addresses.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from circuitsketch.arguments import text_of

LONGEST = 200  # characters of an item
LARGEST = 64  # pixels along the side of an image
NUMBERS = 8  # of an array that is not an image


def describe_item(item: Any) -> str:
    """Return an item as one line of text.

    >>> describe_item("emma"), describe_item(np.array([1.0, 0.25])), describe_item(np.zeros((8, 8)))
    ('emma', '1, 0.25', 'image of 8 x 8')
    """
    if isinstance(item, np.ndarray):
        if is_image(item):
            return f"image of {item.shape[0]} x {item.shape[1]}"
        flat = item.ravel()
        text = ", ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in flat[:NUMBERS].tolist())
        return text + (f", ... ({flat.size:,} numbers)" if flat.size > NUMBERS else "")
    text = text_of(item)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def describe_examples(values: Sequence[Any] | None) -> list[str] | None:
    """Return one text per example, or None if nothing is known of them."""
    return None if values is None else [describe_item(value) for value in values]


def is_image(item: Any) -> bool:
    """Return whether an item is a small picture: grey (height, width), or in colour (height, width, 3)."""
    if not isinstance(item, np.ndarray) or item.dtype.kind not in "biuf":
        return False
    sides = item.shape[:2]
    return item.ndim in (2, 3) and item.shape[2:] in ((), (3,)) and min(sides) >= 4 and max(sides) <= LARGEST


def encode_image(item: np.ndarray) -> str:
    """Return a picture as a `data:` address of a PNG, its smallest value black and its largest white.

    >>> encode_image(np.eye(4))[:22]
    'data:image/png;base64,'
    """
    values = np.nan_to_num(item.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    pixels = np.round((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode("ascii")


def encode_images(items: Sequence[Any] | None, limit: int) -> dict[int, str]:
    """Return the pictures among the items, by id; none if all of them take more than `limit` bytes."""
    images: dict[int, str] = {}
    for i, item in enumerate(items or ()):
        if is_image(item):
            images[i] = encode_image(item)
            limit -= len(images[i])
            if limit < 0:
                return {}
    return images
