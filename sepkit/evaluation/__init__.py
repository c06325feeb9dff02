"""Score tracks: a model on songs, or estimates in files against references; compare what was scored."""

from sepkit.evaluation.comparison import Comparison, ComparisonError, Difference, compare
from sepkit.evaluation.evaluate import evaluate
from sepkit.evaluation.joining import join_scores
from sepkit.evaluation.reporting import report_compared
from sepkit.evaluation.runner import WorkerError
from sepkit.evaluation.scores import Score, Scores
from sepkit.evaluation.settings import DEFAULT_METRICS, METRICS

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Comparison",
    "ComparisonError",
    "Difference",
    "Score",
    "Scores",
    "WorkerError",
    "compare",
    "evaluate",
    "join_scores",
    "report_compared",
]
