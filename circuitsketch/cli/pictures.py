"""Pictures that commands draw with --plot: what they print, drawn with matplotlib, which is imported only then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from circuitsketch.attribution.evaluation import Evaluation
    from circuitsketch.attribution.influence import Influence
    from circuitsketch.attribution.query import Query


def check_plot(plot: Path | None) -> None:
    """Raise InputError if --plot names a file that cannot be drawn to."""
    if plot is not None:
        from circuitsketch.report.figures import check_picture

        check_picture(plot)


def plot_prediction(plot: Path | None, query: Query, h: np.ndarray, measure: str, removed: str, truth: Any) -> None:
    """Draw a prediction over the strength of a deletion, if --plot names a file."""
    if plot is not None:
        from circuitsketch.report.figures import draw_picture
        from circuitsketch.report.removal import predict_along_weights

        draw_picture(plot, predict_along_weights(query, h, measure, removed, truth))


def plot_influence(plot: Path | None, influence: Influence, items: Any, measure: str) -> None:
    """Draw the most helpful and harmful examples, if --plot names a file."""
    if plot is not None:
        from circuitsketch.report.agreement import name_examples, rank_influence
        from circuitsketch.report.figures import draw_picture

        names = name_examples(len(influence.change), items)
        draw_picture(plot, rank_influence(influence, names, measure))


def plot_evaluation(plot: Path | None, query: Query, evaluation: Evaluation, measure: str) -> None:
    """Draw predicted against retrained values, or the coverage of several values, if --plot names a file."""
    if plot is not None:
        from circuitsketch.report.agreement import measure_calibration, read_agreement
        from circuitsketch.report.figures import draw_picture

        if query.shape in ((), (1,)) and query.structure is None:
            draw_picture(plot, read_agreement(query, evaluation, measure))
        else:
            draw_picture(plot, measure_calibration(evaluation, measure))
