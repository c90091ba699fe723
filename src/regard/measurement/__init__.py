"""The costs of a model: parameters, multiplications, activation memory and latency, by module.

Multiply-accumulates (MACs) are those of convolutions and matrix products, as papers count them;
all other arithmetic is counted separately, because gates and pools take time that MACs do not show.
"""

from .costs import Cost, Latency, Measurement, Scaling, measure, scaling
from .meter import Count, count, peak_memory

__all__ = [
    "Cost",
    "Count",
    "Latency",
    "Measurement",
    "Scaling",
    "count",
    "measure",
    "peak_memory",
    "scaling",
]
