"""Reports: one HTML file that opens offline, of a training, scores, a comparison, a separated recording, a check."""

from sepkit.report.check import report_check, shorten_path
from sepkit.report.environment import Stopwatch
from sepkit.report.excerpts import SECONDS
from sepkit.report.page import FILE
from sepkit.report.reports import report_comparison, report_scores, report_separation, report_training
from sepkit.report.scores import Summary, main_metric, summarize

__all__ = [
    "FILE",
    "SECONDS",
    "Stopwatch",
    "Summary",
    "main_metric",
    "report_check",
    "report_comparison",
    "report_scores",
    "report_separation",
    "report_training",
    "shorten_path",
    "summarize",
]
