"""Predictions and retrainings come in; numbers fit for a table or a file go out. Printing is left to `cli`."""

from circuitsketch.report.demo import Answer, Demo, Experiment, Question, Settings, Watch, prepare, study

__all__ = ["Answer", "Demo", "Experiment", "Question", "Settings", "Watch", "prepare", "study"]
