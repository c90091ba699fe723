"""What a model costs: parameters, multiplications, activation memory, latency, by module.

Multiply-accumulates (MACs) are those of convolutions and matrix products, as papers count them;
all other arithmetic is counted apart, because gates and poolings cost time that MACs do not show.
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
