"""The attention maps of all mechanisms in a model, and figures of them."""

from .maps import AttentionMap
from .reading import Explanation, explain

__all__ = ["AttentionMap", "Explanation", "explain"]
