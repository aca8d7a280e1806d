"""Warnings for readers who write no Python: without h, calls and arguments, and with what one can do on the page.

In: a sentence of `estimators`, which speaks to whoever asks in Python. Out: the same in plain words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NUMBER = r"[-+.\w]+"
CALL = r"query\.calibrate\([^)]*\)"

Words = str | Callable[[re.Match[str]], str]


def too_large(match: re.Match[str]) -> str:
    """Say that a removal lies outside the region of trust by the numbers of deletions, |h|^2 and the radius squared."""
    share, size, radius = match["share"] or "", float(match["size"]), float(match["radius"])
    return (
        f"this removal is too large for the series{share}, which can be trusted up to about {radius**2:.0f} deletions, "
        f"and this is as much as {size**2:.0f}; train again to check, or ask about less"
    )


def too_slow(match: re.Match[str]) -> str:
    """Say that a series has not converged, by the share of the change that is left out."""
    share, left_out = match["share"] or "", float(match["left"])
    amount = f"{left_out:.0%} of the change" if left_out < 10 else "more than the change itself"
    return (
        f"the series falls so slowly from order to order{share} that what is left out may be {amount}; train again to "
        "check, or ask about less"
    )


TABLE: tuple[tuple[str, Words], ...] = (
    (
        rf"h lies outside the region of trust(?P<share> \(at [^)]*\))?: the series does not decay for this h "
        rf"\(\|h\| = (?P<size>{NUMBER}), and the radius is (?P<radius>{NUMBER})\); at orders [^;]*; retrain to "
        rf"check, {CALL} on subsets like this one, or ask about a smaller change",
        too_large,
    ),
    (
        rf"h lies outside the region of trust(?P<share> \(at [^)]*\))?: the series falls so slowly from order to order "
        rf"that the orders left out may add (?P<left>{NUMBER}) of the change \([^)]*\); retrain to check, {CALL} on "
        r"subsets like this one, or ask about fewer \w+",
        too_slow,
    ),
    (r"h lies outside the region of trust", "this removal is too large for the series"),
    (r"the series does not decay for this h", "its terms do not decay"),
    (rf"{CALL} retrains subsets, and gives an interval that holds for subsets like them", "a calibration helps"),
    (rf"{CALL} gives one that holds, groups= where \w+ always go together", "a calibration gives one that holds"),
    (
        rf"query\.retrain_worst\([^)]*\) or {CALL} narrows it, and groups= where these \w+ always go together",
        "a calibration narrows it",
    ),
    (rf"; {CALL} with this size among them", "; train again to check"),
    (rf"; {CALL}, or with subsets like this one", "; train again to check"),
    (rf"; {CALL} with subsets (?:that matter as much|like this one)", "; train again to check"),
    (r"; query\.calibrate\(count=48\)", "; 48 of them suffice"),
    (r"; query\.calibrate\(kind='label'\)", "; train again to check"),
    (rf"retrain to check, {CALL} on subsets like this one", "train again to check"),
    (CALL, "a calibration"),
    (r"query\.retrain_worst\([^)]*\) retrains the worst of them", "train again without them to check"),
    (r"query\.retrain_worst\([^)]*\) corrects single \w+, and ", ""),
    (r"query\.retrain_worst\([^)]*\)", "retraining the worst examples"),
    (r"open the sketch with cs\.open_sketch\([^)]*\)", "start the page with the run"),
    (r"cs\.open_sketch\([^)]*\)", "the run"),
    (r"open the sketch with the run", "give the run"),
)


def plain_words(sentence: str) -> str:
    """Return a sentence without calls of Python, for readers who do not write it.

    >>> plain_words("size 2, and calibrated on subsets of size 5; query.calibrate(kind='label')")
    'size 2, and calibrated on subsets of size 5; train again to check'
    """
    for pattern, words in TABLE:
        sentence = re.sub(pattern, words, sentence)
    return sentence
