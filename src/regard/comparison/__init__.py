"""Which attention gains what, at which cost: variants of one backbone, trained alike.

`compare` trains them. Each run is written to a ledger as soon as it is over, so that nothing that
is finished is ever lost; the answer is a table with intervals, and a page to look at.
"""

from .experiment import compare
from .results import Comparison, Row

__all__ = ["Comparison", "Row", "compare"]
