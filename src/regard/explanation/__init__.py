"""Where attention looks: the map of every mechanism in a model, and pictures of them."""

from .maps import AttentionMap
from .reading import Explanation, explain

__all__ = ["AttentionMap", "Explanation", "explain"]
