# Without this the folder tests/keras would be taken for the package where Keras is not installed.
from typing import Any

def __getattr__(name: str) -> Any: ...
