"""Experiments and reports: tables, JSON values and figures of predictions and retrainings. `cli` prints them."""

from circuitsketch.report.demo import (
    Answer,
    Demo,
    Experiment,
    Question,
    Settings,
    StageProgress,
    prepare,
    run_experiment,
)

__all__ = ["Answer", "Demo", "Experiment", "Question", "Settings", "StageProgress", "prepare", "run_experiment"]
