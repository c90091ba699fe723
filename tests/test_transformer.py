"""The Transformer beside torch's classes, its masks, and decoding step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

import regard
from cases import randomize, watched
from closeness import assert_same
from regard import Transformer, TransformerDecoder, TransformerEncoder
from regard.factory import load_reference
from replay import masks_of_a_model

SIZES: dict[str, Any] = {"d_model": 12, "nhead": 3, "dim_feedforward": 20, "batch_first": True}
FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"norm_first": True, "activation": "gelu"},
    {"bias": False, "layer_norm_eps": 1e-2, "activation": gelu},
    {"activation": nn.ReLU(), "dropout": 0.3},
)
pytestmark = pytest.mark.filterwarnings(
    "ignore:enable_nested_tensor is True"
)  # torch's own fast path
forms = pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))


def sequences(b: int = 2, n: int = 7, m: int = 5, d: int = 12) -> tuple[Tensor, Tensor]:
    return torch.randn(b, n, d).double(), torch.randn(b, m, d).double()


def closing() -> dict[str, Tensor]:
    """Masks of every kind, as torch has them: True = may not attend, or added to the scores."""
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 5:] = True
    behind = torch.ones(5, 5, dtype=torch.bool).triu(1)
    return {
        "src_mask": torch.randn(6, 7, 7).double(),
        "tgt_mask": behind,
        "memory_mask": torch.rand(5, 7) > 0.8,
        "src_key_padding_mask": padding,
        "tgt_key_padding_mask": torch.arange(5).expand(2, 5) > torch.tensor([[4], [3]]),
        "memory_key_padding_mask": padding.flip(0),
    }


def beside(theirs: nn.Module, kwargs: Mapping[str, Any], inputs: tuple[Tensor, ...]) -> None:
    """Compare with one of torch's, without masks and with all those that it takes."""
    randomize(theirs.double().eval())
    name = type(theirs).__name__
    ours = load_reference("transformer", f"torch:{name}", kwargs, theirs.state_dict()).eval()
    assert_same(ours(*inputs), theirs(*inputs))
    masks = closing()
    if len(inputs) == 1:
        masks = {
            "src_mask": masks["src_mask"],
            "src_key_padding_mask": masks["src_key_padding_mask"],
        }
    elif "Decoder" in name:
        masks = {n: mask for n, mask in masks.items() if not n.startswith("src")}
    called = dict(masks)
    if "src_key_padding_mask" in masks:  # torch wants it as a float beside another
        padding = masks["src_key_padding_mask"]
        bias = torch.zeros(padding.shape).double().masked_fill(padding, -torch.inf)
        called["src_key_padding_mask"] = bias
    if name == "TransformerEncoder":
        called["mask"] = called.pop("src_mask")
    given = masks_of_a_model(ours, {"": inputs[0], **masks} if masks else {})
    assert_same(ours(*inputs, **given), theirs(*inputs, **called))


@forms
def test_whole_model_is_that_of_torch(form: dict[str, Any]) -> None:
    kwargs = {**SIZES, "num_encoder_layers": 2, "num_decoder_layers": 1, **form}
    beside(nn.Transformer(**kwargs), kwargs, sequences())


@forms
def test_bare_layers_are_those_of_torch(form: dict[str, Any]) -> None:
    source, target = sequences()
    kwargs = {**SIZES, **form}
    beside(nn.TransformerEncoderLayer(**kwargs), kwargs, (source,))
    beside(nn.TransformerDecoderLayer(**kwargs), kwargs, (target, source))


@pytest.mark.parametrize("norm", [None, nn.LayerNorm(12, 1e-3), nn.LayerNorm(12, bias=False)])
@forms
def test_stacks_are_those_of_torch(form: dict[str, Any], norm: nn.Module | None) -> None:
    """From the layer that torch copies, or from its arguments."""
    source, target = sequences()
    layer = nn.TransformerEncoderLayer(**SIZES, **form)
    kwargs: dict[str, Any] = {"encoder_layer": layer, "num_layers": 2, "norm": norm}
    beside(nn.TransformerEncoder(**kwargs, enable_nested_tensor=False), kwargs, (source,))
    kwargs = {"decoder_layer": nn.TransformerDecoderLayer(**SIZES, **form), "num_layers": 2}
    theirs = nn.TransformerDecoder(**kwargs, norm=norm)
    beside(theirs, {**kwargs, "norm": norm, "decoder_layer": {**SIZES, **form}}, (target, source))


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"activation": nn.functional.silu}, "activation: relu and gelu can be loaded"),
        ({"activation": nn.GELU("tanh")}, "activation: relu and gelu can be loaded"),
        ({"custom_encoder": nn.Identity()}, "custom_encoder must be None to be loaded"),
    ],
)
def test_what_is_another_model_is_refused(kwargs: dict[str, Any], reason: str) -> None:
    whole = "custom_encoder" in kwargs
    theirs = nn.Transformer(**SIZES) if whole else nn.TransformerEncoderLayer(**SIZES)
    with pytest.raises(ValueError, match=reason):
        load_reference("transformer", "torch", {**SIZES, **kwargs}, theirs.state_dict())


def test_a_norm_of_another_kind_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(**SIZES)
    theirs = nn.TransformerEncoder(layer, 2, nn.RMSNorm(12), enable_nested_tensor=False)
    given = {"encoder_layer": layer, "num_layers": 2, "norm": theirs.norm}
    with pytest.raises(ValueError, match="norm must be a LayerNorm"):
        load_reference("transformer", "torch:TransformerEncoder", given, theirs.state_dict())


def test_a_decoder_of_torch_is_causal_if_it_is_said() -> None:
    theirs = randomize(nn.TransformerDecoderLayer(**SIZES).double().eval())
    memory, target = sequences()
    ours = load_reference("transformer", "torch", {**SIZES, "causal": True}, theirs.state_dict())
    mask = nn.Transformer.generate_square_subsequent_mask(5).double()
    assert_same(ours.eval()(target, memory), theirs(target, memory, mask, tgt_is_causal=True))


def decoder(**options: Any) -> TransformerDecoder:
    how = {"num_layers": 2, "hidden_dim": 20, **options}
    return randomize(TransformerDecoder(12, 3, **how)).double().eval()


def in_steps(
    module: TransformerDecoder,
    target: Tensor,
    memory: Tensor,
    sizes: tuple[int, ...],
    *,
    target_key_mask: Tensor | None = None,
    memory_key_mask: Tensor | None = None,
) -> Tensor:
    cache = module.remember(memory, memory_key_mask=memory_key_mask)
    outputs, start = [], 0
    for size in sizes:
        here = slice(start, start + size)
        valid = None if target_key_mask is None else target_key_mask[:, here]
        y, cache = module.step(target[:, here], cache, target_key_mask=valid)
        outputs.append(y)
        start += size
        assert cache.length == start
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (3, 1, 1), (2, 3), (5,)])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("padding", ["none", "memory", "both"])
def test_steps_give_what_all_positions_at_once_give(
    sizes: tuple[int, ...], norm_first: bool, padding: str
) -> None:
    """Also where a shorter target is padded in front, so that its first rows read nothing."""
    module = decoder(norm_first=norm_first)
    memory, target = sequences()
    masks: dict[str, Tensor] = {}
    if padding != "none":
        masks["memory_key_mask"] = torch.arange(7) < torch.tensor([[7], [4]])
    if padding == "both":
        masks["target_key_mask"] = torch.arange(5) >= torch.tensor([[2], [0]])
    want = module(target, memory, **masks)
    assert_same(in_steps(module, target, memory, sizes, **masks), want)
    with watched(module):
        assert_same(in_steps(module, target, memory, sizes, **masks), want)


def test_padding_may_begin_after_the_first_step() -> None:
    module = decoder()
    memory, target = sequences()
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[0, 3] = False
    _, cache = module.step(target[:, :2], module.remember(memory))
    _, cache = module.step(target[:, 2:4], cache, target_key_mask=valid[:, 2:4])
    last, _ = module.step(target[:, 4:], cache)
    assert_same(last, module(target, memory, target_key_mask=valid)[:, 4:])


def test_a_cache_can_be_used_again() -> None:
    """A step leaves the cache that it reads as it was, so several may go on from it."""
    module = decoder()
    memory, target = sequences()
    _, cache = module.step(target[:, :3], module.remember(memory))
    one, _ = module.step(target[:, 3:4], cache)
    module.step(target[:, 4:], cache)
    again, _ = module.step(target[:, 3:4], cache)
    assert cache.length == 3
    assert torch.equal(one, again)


def test_keys_and_values_are_computed_once() -> None:
    module = decoder()
    memory, target = sequences()
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        return lambda layer, args, y: seen.__setitem__(name, seen.get(name, 0) + args[0].shape[1])

    for name, layer in module.named_modules():
        if name.endswith(("key", "value")):
            layer.register_forward_hook(note(name))
    in_steps(module, target, memory, (2, 1, 1, 1))
    assert len(seen) == 8
    assert all(count == (7 if "cross" in name else 5) for name, count in seen.items())


@torch.no_grad()
def test_greedy_decoding_gives_the_same_tokens_with_and_without_the_cache() -> None:
    model = (
        Transformer(12, 3, num_encoder_layers=1, num_decoder_layers=2, norm_first=True)
        .double()
        .eval()
    )
    source, _ = sequences(b=4)
    table, places, score = (torch.randn(9, 12).double() for _ in range(3))
    valid = torch.arange(7) < torch.tensor([[7], [4], [1], [6]])
    memory = model.encoder(source, source_key_mask=valid)
    cache = model.decoder.remember(memory, memory_key_mask=valid)
    plain = cached = torch.zeros(4, 1, dtype=torch.long)
    for i in range(8):
        target = table[plain] + 2 * places[: i + 1]
        scores = model(source, target, source_key_mask=valid)[:, -1] @ score.mT
        plain = torch.cat([plain, scores.argmax(1, keepdim=True)], 1)
        y, cache = model.decoder.step(table[cached[:, -1:]] + 2 * places[i], cache)
        cached = torch.cat([cached, (y[:, -1] @ score.mT).argmax(1, keepdim=True)], 1)
    assert torch.equal(plain, cached)
    assert plain.unique().numel() > 3, "all tokens alike: nothing is compared"


def test_steps_need_a_causal_decoder() -> None:
    module = decoder(causal=False)
    memory, target = sequences()
    with pytest.raises(ValueError, match=r"^TransformerDecoder: step needs causal=True"):
        module.step(target, module.remember(memory))


@pytest.mark.parametrize("watch", [False, True], ids=["plain", "watched"])
def test_no_position_reads_what_is_behind_it(watch: bool) -> None:
    module = decoder()
    memory, target = sequences()
    other = target.clone()
    other[:, 3:] += 1
    seen: dict[str, Any] = {}
    if watch:
        with watched(module) as seen:
            one, two = module(target, memory), module(other, memory)
    else:
        one, two = module(target, memory), module(other, memory)
    assert_same(one[:, :3], two[:, :3])
    assert not seen or not seen["layers.1.self_attention.tap"].triu(1).any()


@pytest.mark.parametrize("watch", [False, True], ids=["plain", "watched"])
def test_padding_is_read_by_nobody(watch: bool) -> None:
    model = randomize(
        Transformer(12, 3, num_encoder_layers=2, num_decoder_layers=2).double().eval()
    )
    source, target = sequences()
    valid = torch.arange(7) < torch.tensor([[7], [4]])
    other = torch.where(valid[..., None], source, 1e3)

    def run() -> tuple[Tensor, Tensor]:
        return model(source, target, source_key_mask=valid), model(
            other, target, source_key_mask=valid
        )

    if watch:
        with watched(model) as seen:
            assert_same(*run())
        assert not seen["decoder.layers.0.cross_attention.tap"][1, :, :, 4:].any()
    else:
        assert_same(*run())
    all_read = model(source, target, source_key_mask=valid, memory_key_mask=torch.ones_like(valid))
    assert not torch.allclose(all_read[1], run()[0][1]), (
        "memory_key_mask says who reads the padding"
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("watch", [False, True], ids=["plain", "watched"])
def test_a_sequence_of_padding_alone_gives_numbers(dtype: torch.dtype, watch: bool) -> None:
    """And gradients; its attentions give zeros, whatever the masks are made of."""
    model = Transformer(12, 3, num_encoder_layers=2, num_decoder_layers=2).to(dtype)
    source, target = (50 * x.to(dtype) for x in sequences())
    valid = torch.tensor([[True] * 7, [False] * 7])
    bias = torch.zeros(5, 5, dtype=dtype)
    for masks in ({}, {"target_mask": bias}, {"target_key_mask": valid[:, :5]}):
        x = source.clone().requires_grad_()
        if watch:
            with watched(model) as seen:
                y = model(x, target, source_key_mask=valid, **masks)
            assert not seen["decoder.layers.0.cross_attention.tap"][1].any()
        else:
            y = model(x, target, source_key_mask=valid, **masks)
        y.float().square().sum().backward()
        assert y.isfinite().all()
        assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("masks", "error", "said"),
    [
        (
            {"source_key_mask": torch.ones(2, 6, dtype=torch.bool)},
            ValueError,
            "source_key_mask: expected",
        ),
        ({"source_key_mask": torch.ones(2, 7)}, TypeError, "source_key_mask: expected bool"),
        (
            {"memory_key_mask": torch.ones(2, 5, dtype=torch.bool)},
            ValueError,
            "memory_key_mask: expected",
        ),
        ({"target_mask": torch.ones(5, 7, dtype=torch.bool)}, ValueError, "mask: expected axis m"),
        ({"target_mask": torch.ones(5, 5, dtype=torch.long)}, TypeError, "mask: expected bool"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(
    masks: dict[str, Tensor], error: type[Exception], said: str
) -> None:
    model = Transformer(12, 3, num_encoder_layers=1, num_decoder_layers=1).double()
    with pytest.raises(error, match=said):
        model(*sequences(), **masks)


def test_compiles_whole_with_masks() -> None:
    model = randomize(
        Transformer(12, 3, num_encoder_layers=1, num_decoder_layers=1).double().eval()
    )
    source, target = sequences()
    masks = {
        "source_key_mask": torch.arange(7) < torch.tensor([[7], [4]]),
        "target_mask": torch.randn(5, 5).double(),
        "target_key_mask": torch.arange(5) < torch.tensor([[3], [5]]),
    }
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert_same(compiled(source, target, **masks), model(source, target, **masks))


def test_a_traced_model_takes_masks() -> None:
    model = randomize(
        Transformer(12, 3, num_encoder_layers=1, num_decoder_layers=1).double().eval()
    )
    source, target = sequences()
    valid = torch.arange(7) < torch.tensor([[7], [4]])
    traced = torch.fx.symbolic_trace(model)
    assert_same(
        traced(source, target, source_key_mask=valid), model(source, target, source_key_mask=valid)
    )


def test_explain_shows_every_attention() -> None:
    model = Transformer(12, 3, num_encoder_layers=2, num_decoder_layers=1).double()
    maps = regard.explain(model, *sequences())
    shapes = {path: tuple(one.tensor.shape) for path, one in maps.items()}
    assert shapes == {
        "encoder.layers.0.self_attention": (2, 3, 7, 7),
        "encoder.layers.1.self_attention": (2, 3, 7, 7),
        "decoder.layers.0.self_attention": (2, 3, 5, 5),
        "decoder.layers.0.cross_attention": (2, 3, 5, 7),
    }


def test_dropout_reaches_every_place() -> None:
    """Maps, hidden units, and what each sublayer adds; one rate for all."""
    encoder = TransformerEncoder(12, 3, num_layers=1, dropout=0.4)
    drops = [m for m in encoder.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in drops] == [0.4] * 3
