"""torch's own Transformer, its encoder, its decoder, and their layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import nn

PROJECTIONS = ("query", "key", "value")
ACTIVATIONS = ("relu", "gelu")


def _names(there: str, here: str, *, crossed: bool) -> dict[str, str | tuple[str, ...]]:
    """Return the names in one layer, or in all layers if the prefixes contain a ``*``."""
    found: dict[str, str | tuple[str, ...]] = {
        f"{there}linear1": f"{here}feed_forward.0",
        f"{there}linear2": f"{here}feed_forward.3",
        f"{there}norm1": f"{here}self_norm",
        f"{there}norm2": f"{here}{'cross_norm' if crossed else 'feed_norm'}",
        f"{there}norm3": f"{here}feed_norm",
    }
    for theirs, ours in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
        for kind in ("weight", "bias"):  # torch stacks the three projections
            stacked = tuple(f"{here}{ours}.{name}.{kind}" for name in PROJECTIONS)
            found[f"{there}{theirs}.in_proj_{kind}"] = stacked
        found[f"{there}{theirs}.out_proj"] = f"{here}{ours}.out"
    return found


def _activation(given: object, forgets: bool) -> str:
    """Return the name of an activation, which may be a name, a function or a module.

    Torch's decoder ``forgets`` a module when it copies its layer, and uses ReLU.
    """
    from torch import nn

    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    exact = getattr(given, "approximate", "none") == "none"
    if name.lower() not in ACTIVATIONS or not exact:
        raise ValueError(f"activation: {' and '.join(ACTIVATIONS)} can be loaded, got {given}")
    if forgets and isinstance(given, nn.Module) and not isinstance(given, nn.ReLU):
        raise ValueError(
            f"activation: a decoder of torch replaces {given}, a module, by ReLU: pass 'relu'"
        )
    return name.lower()


def _layer(
    d_model: int,
    nhead: int,
    dim_feedforward: int = 2048,
    dropout: float = 0.1,
    activation: object = "relu",
    layer_norm_eps: float = 1e-5,
    norm_first: bool = False,
    bias: bool = True,
    *,
    causal: bool = False,
    forgets: bool = False,
) -> Options:
    return dict(
        embed_dim=d_model,
        num_heads=nhead,
        hidden_dim=dim_feedforward,
        activation=_activation(activation, forgets),
        norm_first=norm_first,
        dropout=dropout,
        bias=bias,
        eps=layer_norm_eps,
        causal=causal,
    )


def _single(
    d_model: int,
    nhead: int,
    dim_feedforward: int = 2048,
    dropout: float = 0.1,
    activation: object = "relu",
    layer_norm_eps: float = 1e-5,
    norm_first: bool = False,
    bias: bool = True,
    *,
    causal: bool = False,
) -> Options:
    """Translate a single layer to a stack of one."""
    given = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias)
    return {**_layer(*given, causal=causal), "num_layers": 1, "final_norm": False}


def _whole(
    d_model: int = 512,
    nhead: int = 8,
    num_encoder_layers: int = 6,
    num_decoder_layers: int = 6,
    dim_feedforward: int = 2048,
    dropout: float = 0.1,
    activation: object = "relu",
    layer_norm_eps: float = 1e-5,
    norm_first: bool = False,
    bias: bool = True,
    *,
    causal: bool = False,
) -> Options:
    given = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, bias)
    return {
        **_layer(*given, causal=causal, forgets=True),
        "num_encoder_layers": num_encoder_layers,
        "num_decoder_layers": num_decoder_layers,
    }


def _described(layer: Any) -> Options:
    """Return the constructor's arguments of one of torch's layers."""
    from torch import nn

    if isinstance(layer, Mapping):
        return {name: value for name, value in layer.items() if name != "batch_first"}
    if not isinstance(layer, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        raise TypeError(f"expected one of torch's layers, got {type(layer).__name__}")
    return {
        "d_model": layer.self_attn.embed_dim,
        "nhead": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": layer.activation,
        "layer_norm_eps": layer.norm1.eps,
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }


def _stack(layer: Any, number: int, norm: Any, causal: bool, forgets: bool) -> Options:
    from torch import nn

    if norm is not None and not isinstance(norm, nn.LayerNorm):
        raise ValueError(f"norm must be a LayerNorm, got {norm}")
    described = _described(layer)
    options = _layer(**described, causal=causal, forgets=forgets)  # type: ignore[arg-type]
    return {**options, "num_layers": number, "final_norm": norm}


def _encoder(
    encoder_layer: Any,
    num_layers: int,
    norm: Any = None,
    *,
    causal: bool = False,
) -> Options:
    return _stack(encoder_layer, num_layers, norm, causal, forgets=False)


def _decoder(
    decoder_layer: Any,
    num_layers: int,
    norm: Any = None,
    *,
    causal: bool = False,
) -> Options:
    return _stack(decoder_layer, num_layers, norm, causal, forgets=True)


def _built(options: Options, name: str) -> nn.Module:
    """Build a stack; its last norm, a module in torch, has an eps and a bias of its own."""
    from torch import nn

    from ..mechanisms import transformer

    norm = options["final_norm"]
    module = getattr(transformer, name)(**{**options, "final_norm": norm is not None})
    if isinstance(norm, nn.LayerNorm):
        affine, bias = norm.elementwise_affine, norm.bias is not None
        module.final_norm = nn.LayerNorm(norm.normalized_shape, norm.eps, affine, bias)
    return module


MAP = "b heads n m, cross: b heads n m"

REFERENCES = (
    Reference(
        "torch:Transformer",
        _whole,
        {
            **_names("encoder.layers.*.", "encoder.layers.*.", crossed=False),
            **_names("decoder.layers.*.", "decoder.layers.*.", crossed=True),
            "encoder.norm": "encoder.final_norm",
            "decoder.norm": "decoder.final_norm",
        },
        fixed=dict(custom_encoder=None, custom_decoder=None),
        ignored=("batch_first",),
        map=MAP,
    ),
    Reference(
        "torch:TransformerEncoder",
        _encoder,
        {**_names("layers.*.", "layers.*.", crossed=False), "norm": "final_norm"},
        builds=partial(_built, name="TransformerEncoder"),
        ignored=("enable_nested_tensor", "mask_check"),
        map=MAP,
    ),
    Reference(
        "torch:TransformerDecoder",
        _decoder,
        {**_names("layers.*.", "layers.*.", crossed=True), "norm": "final_norm"},
        builds=partial(_built, name="TransformerDecoder"),
        map=MAP,
    ),
    Reference(
        "torch:TransformerEncoderLayer",
        _single,
        _names("", "layers.0.", crossed=False),
        builds="TransformerEncoder",
        ignored=("batch_first",),
        map=MAP,
    ),
    Reference(
        "torch:TransformerDecoderLayer",
        _single,
        _names("", "layers.0.", crossed=True),
        builds="TransformerDecoder",
        ignored=("batch_first",),
        map=MAP,
    ),
)
