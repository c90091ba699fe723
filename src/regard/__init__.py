"""Visual attention you can trust.

``regard.find()`` lists the mechanisms, ``regard.create("cbam", 256)`` makes one,
``regard.insert(model, "cbam")`` puts it into a built model, ``regard.explain`` shows where it
looks, ``regard.measure`` and ``regard.compare`` what it costs and gains.

Nothing heavy is imported before it is used: a name is looked up when it is first touched.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

__version__ = "0.1.0"

_TOOLS = {
    "find": "catalog",
    "show": "catalog",
    "cite": "catalog",
    "create": "factory",
    "load_reference": "factory",
    "Attention": "core.attention",
    "SequenceAttention": "core.attention",
    "PairAttention": "core.contracts",
    "PoolAttention": "core.contracts",
    "LevelsAttention": "core.contracts",
    "Axes": "core.axes",
    "Card": "core.card",
    "insert": "surgery",
    "replace": "surgery",
    "remove": "surgery",
    "plan": "surgery",
    "insertions": "surgery",
    "adopt": "surgery",
    "recipe": "surgery",
    "Recipe": "surgery",
    "save": "surgery",
    "load": "surgery",
    "attention_parameters": "surgery",
    "freeze": "surgery",
    "unfreeze": "surgery",
    "parameter_groups": "surgery",
    "explain": "explanation",
    "measure": "measurement",
    "scaling": "measurement",
    "compare": "comparison",
    "network": "networks",
    "find_networks": "networks",
}


def _mechanisms() -> dict[str, str]:
    from .catalog import class_to_key

    return class_to_key()


def __getattr__(name: str) -> Any:
    if name in _TOOLS:
        value = _found(_TOOLS[name], name)
    elif not name.startswith("_") and name in (found := _mechanisms()):
        value = _found(f"mechanisms.{found[name]}", name)
    elif not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        value = import_module(f"{__name__}.{name}")  # as in regard.compat.install()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _found(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f'regard.{name} needs torch: pip install "regard[torch]"') from error


def __dir__() -> list[str]:
    return sorted([*_TOOLS, *_mechanisms(), "__version__"])
