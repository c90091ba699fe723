"""Runs old scripts: the classes of two well-known libraries, with the papers' mathematics.

``python -m regard.compat script.py`` runs a script that was written against
xmu-xiaoma666/External-Attention-pytorch, ``fightingcv-attention`` or
ccfco-Ivan/External-Attention-tensorflow; `install` makes their modules importable in a program:

>>> import regard.compat
>>> regard.compat.install()
>>> from model.attention.SEAttention import SEAttention
>>> SEAttention(channel=64, reduction=8)
SEAttention(
  channel=64, reduction=8
  (tap): Tap()
  (squeeze): Linear(in_features=64, out_features=8, bias=False)
  (excite): Linear(in_features=8, out_features=64, bias=False)
)
>>> regard.compat.uninstall()

The objects are mechanisms like any other: they have attention maps, can be measured and saved, and
load what the old classes saved. Creating one whose old class computed something else warns once.
"""

from __future__ import annotations

import sys

from .checkpoint import convert as convert
from .importing import Finder, LegacyLoader, module_names, packages
from .legacy import Changed as Changed
from .legacy import Framework
from .settings import settings

_FINDER = Finder()


def install(*, framework: Framework | None = None, legacy_behavior: bool = False) -> None:
    """Make ``attention.X``, ``model.attention.X``, ``fightingcv_attention.attention.X`` importable.

    ``conv.X`` becomes importable too. These modules take precedence over a copy of the old code. A
    module of the project with the name of an old one, but none of its classes, is not replaced.

    Args:
        framework: The framework of the classes in ``attention.X``: ``torch`` or ``keras``; by
            default Keras if the script imports TensorFlow.
        legacy_behavior: Compute what the old classes did, where the mechanism has an option for it.

    Raises:
        ValueError: the framework is unknown.
    """
    if framework not in (None, "torch", "keras"):
        raise ValueError(f'framework must be "torch" or "keras", got {framework!r}')
    uninstall()
    settings.framework, settings.legacy_behavior = framework, legacy_behavior
    sys.meta_path.insert(0, _FINDER)


def uninstall() -> None:
    """Undo `install`; existing objects keep working."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name in (*module_names(), *packages()):
        module = sys.modules.get(name)
        ours = isinstance(getattr(getattr(module, "__spec__", None), "loader", None), LegacyLoader)
        if module is not None and (ours or name in module_names()):
            del sys.modules[name]
            parent, _, leaf = name.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(leaf, None)
