"""Equations for a terminal: TeX from docstrings as Unicode text, where possible."""

from __future__ import annotations

import re
from collections.abc import Iterator

SYMBOLS = dict(
    re.findall(
        r"(\w+)=(\S+)",
        """
    alpha=α beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε eta=η theta=θ kappa=κ lambda=λ mu=μ nu=ν
    zeta=ζ xi=ξ pi=π rho=ρ sigma=σ tau=τ phi=φ varphi=φ chi=χ psi=ψ omega=ω Gamma=Γ Delta=Δ Theta=Θ
    Lambda=Λ Sigma=Σ Phi=Φ Psi=Ψ Omega=Ω ell=ℓ infty=∞ nabla=∇ partial=∂ prime=′ top=ᵀ intercal=ᵀ
    sum=Σ prod=Π int=∫ max=max min=min exp=exp log=log ln=ln tanh=tanh cos=cos sin=sin
    arg=arg det=det odot=⊙ otimes=⊗ oplus=⊕ cdot=· times=× circ=∘ ast=*
    circledast=⊛ star=⋆ pm=± cup=∪ in=∈ subset=⊂ forall=∀
    le=≤ leq=≤ ge=≥ geq=≥ ne=≠ neq=≠ approx=≈ propto=∝ sim=~ to=→ mapsto=↦ rightarrow=→ leftarrow=←
    lfloor=⌊ rfloor=⌋ lceil=⌈ rceil=⌉ langle=⟨ rangle=⟩ mid=| vert=| Vert=‖ lVert=‖ rVert=‖ colon=:
    dots=… ldots=… cdots=⋯
        """,
    )
)
ESCAPED = {",": " ", ";": " ", ":": " ", " ": " ", "!": "", "|": "‖", "{": "{", "}": "}", "%": "%"}
SILENT = {
    *("big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "left", "right", "textstyle"),
    *("displaystyle", "limits", "nolimits", "mathrm", "mathbf", "mathbb", "mathcal", "boldsymbol"),
    *("text", "operatorname", "bm"),
}
ACCENTS = dict(hat="\u0302", widehat="\u0302", bar="\u0304", overline="\u0304", tilde="\u0303")
ACCENTS |= dict(widetilde="\u0303", vec="\u20d7", dot="\u0307")
RAISED = dict(zip("0123456789+-=()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾", strict=True))
RAISED |= dict(zip("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
RAISED |= dict(zip("ABDEGHIJKLMNOPRTUVWᵀ′", "ᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵀ′", strict=True))
LOWERED = dict(zip("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", strict=True))
LOWERED |= dict(zip("aehijklmnoprstuvxβγρφχ", "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True))
BREAK = "\n"


def lines(tex: str) -> list[str]:
    r"""Write an equation as lines of text, one for each part, or as raw TeX if that fails.

    >>> lines(r"a = \sigma\big(W_2\,\delta(W_1 z)\big), \quad y = a \odot x")
    ['a = σ(W₂ δ(W₁ z))', 'y = a ⊙ x']
    >>> lines(r"y = \begin{cases} 1 \end{cases}")
    ['y = \\begin{cases} 1 \\end{cases}']
    """
    try:
        text = _sequence(_tokens(tex))
    except (LookupError, StopIteration):
        return [tex]
    text = re.sub(r"(?<=[(\[⌊⌈ ]) +| +(?=[)\]⌋⌉,;])", "", text)
    return [part for line in text.split(BREAK) if (part := line.strip(" ,"))]


def inline(tex: str) -> str:
    r"""Write a formula as one line of text.

    >>> inline(r"\lfloor C/r \rfloor"), inline("n c + c^2"), inline(r"\tfrac{1}{HW}")
    ('⌊C/r⌋', 'n c + c²', '1/(HW)')
    """
    return ", ".join(lines(tex))


def prose(text: str) -> str:
    """Write the roles and literals of a docstring as plain text.

    >>> prose("with :math:`r` hidden channels, unless ``hidden`` is given")
    'with r hidden channels, unless hidden is given'
    """
    text = re.sub(r":math:`([^`]*)`", lambda found: inline(found[1]), text)
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text)
    return re.sub(r"\s+", " ", re.sub(r"`+([^`]*)`+", r"\1", text)).strip()


def _tokens(tex: str) -> Iterator[str]:
    return iter(re.findall(r"\\[A-Za-z]+|\\.|\s+|.", tex))


def _sequence(tokens: Iterator[str], end: str = "") -> str:
    """Write everything up to the closing brace, or to the end."""
    written = ""
    for token in tokens:
        if token == end:
            return written
        written += _piece(token, tokens)
    if end:
        raise LookupError(end)
    return written


def _piece(token: str, tokens: Iterator[str]) -> str:
    name = token[1:]
    if token == "{":
        return _sequence(tokens, "}")
    if token == "^":
        return _script(_argument(tokens), RAISED, "^")
    if token == "_":
        return _script(_argument(tokens), LOWERED, "_")
    if not token.startswith("\\"):
        return {"'": "′", "&": "", "~": " "}.get(token, " " if token.isspace() else token)
    if name in ("quad", "qquad", "\\"):
        return BREAK
    if name in ("frac", "tfrac", "dfrac"):
        return f"{_closed(_argument(tokens))}/{_closed(_argument(tokens))} "
    if name == "sqrt":
        return f"√{_closed(_argument(tokens))}"
    if name in ACCENTS:
        return _argument(tokens) + ACCENTS[name]
    if name in SILENT:
        return ""
    if name in ESCAPED:
        return ESCAPED[name]
    return SYMBOLS[name]


def _argument(tokens: Iterator[str]) -> str:
    token = next(tokens)
    while token.isspace() or token[1:] in SILENT:
        token = next(tokens)
    return _piece(token, tokens).strip()


def _script(text: str, alphabet: dict[str, str], mark: str) -> str:
    """Write a superscript or subscript, with Unicode's letters if it has all of them."""
    letters = text.replace(" ", "").replace(",", "")
    if all(letter in alphabet for letter in letters):
        return "".join(alphabet[letter] for letter in letters)
    return mark + (text if len(text) == 1 or text.isalnum() else f"({text})")


def _closed(text: str) -> str:
    """Add parentheses unless the text is unambiguous next to a slash or a root sign."""
    marks = {*RAISED.values(), *LOWERED.values(), *ACCENTS.values()}
    single = text.isdigit() or all(letter in marks for letter in text.removeprefix("√")[1:])
    return text if single else f"({text})"
