"""Train variants of one backbone under one recipe and compare their accuracy and cost.

`compare` trains them. Each finished run is written to a results log at once, so that an interrupted
comparison loses none. The result is a table with confidence intervals, and an HTML page.
"""

from .experiment import compare
from .results import Comparison, Row

__all__ = ["Comparison", "Row", "compare"]
