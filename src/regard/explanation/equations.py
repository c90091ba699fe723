"""Products of two tensors in the letters of `torch.einsum`."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

ELLIPSIS = "αβγδεζηθ"


class Product(NamedTuple):
    """A product of two tensors, with a letter for each axis.

    Attributes:
        left: The axes of the left operand.
        right: The axes of the right operand.
        out: The axes of the result.
        x: The left operand.
        y: The right operand.
    """

    left: str
    right: str
    out: str
    x: Tensor
    y: Tensor

    @property
    def summed(self) -> str:
        """The axes that both operands have and the result has not."""
        return "".join(i for i in self.left if i in self.right and i not in self.out)

    def both_ways(self) -> tuple[tuple[str, Tensor, str, Tensor], ...]:
        """Return each operand with the other one: its axes and itself, then those of the other."""
        return (self.left, self.x, self.right, self.y), (self.right, self.y, self.left, self.x)


def product_of(name: str, args: Any, given: list[Tensor]) -> Product | None:
    """Return the product that a function computes; None if it is another one.

    Args:
        name: The function's name.
        args: Its arguments.
        given: The tensors among its arguments.
    """
    if name == "einsum":
        return _einsum(args)
    x, y = given[-2:] if name != "__rmatmul__" else given[::-1]
    if min(x.dim(), y.dim()) < 2:
        return None
    return Product(*_letters(x.dim(), y.dim()), x, y)


def _letters(left: int, right: int) -> tuple[str, str, str]:
    """Return the equation of a product of matrices in the letters of einsum.

    >>> _letters(4, 4), _letters(3, 2)
    (('abnm', 'abmd', 'abnd'), ('anm', 'md', 'and'))
    """
    lead = "abcefghijk"
    rank = max(left, right) - 2
    one, two = lead[:rank][rank - left + 2 :], lead[:rank][rank - right + 2 :]
    return f"{one}nm", f"{two}md", f"{lead[:rank]}nd"


def _einsum(args: Any) -> Product | None:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    if not isinstance(equation, str) or "->" not in equation or len(operands) != 2:
        return None
    left, _, right = equation.replace(" ", "").partition("->")
    terms = []
    for term, x in zip(left.split(","), operands, strict=True):
        more = x.dim() - len(term.replace("...", ""))
        terms.append((term.replace("...", ELLIPSIS[8 - more :]), x))
    longest = max((term for term, _ in terms), key=len)
    free = "".join(letter for letter in longest if letter in ELLIPSIS)
    (one, x), (two, y) = terms
    return Product(one, two, right.replace("...", free), x, y)
