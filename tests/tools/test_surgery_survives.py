"""What people do with a model after the insertion: the attention stays, and computes the same.

Each treatment takes a model with attention and returns the treated one, or a function that computes
its output.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune as prune
from torch import Tensor, nn

import regard
from regard.surgery import insertions

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")


class ConvNormAct(nn.Module):
    """A layer that fuses its norm into its convolution, as detectors have it."""

    def __init__(self, c_in: int, c_out: int, k: int = 1, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, s, k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))

    def forward_fused(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Bottleneck(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = ConvNormAct(c, c // 2, 3), ConvNormAct(c // 2, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))


class Detector(nn.Module):
    """The trunk of a detector with one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 16, 3, 2)
        self.body = nn.Sequential(Bottleneck(16), ConvNormAct(16, 32, 3, 2), Bottleneck(32))
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x))).mean((2, 3))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: torchvision.models.resnet.ResNet(
        torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4
    ),
    "vit": lambda: timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        depth=2,
        num_classes=4,
        global_pool="avg",
    ),
    "detector": Detector,
}
MECHANISMS = ("cbam", "squeeze_excitation", "simam", "coordinate", "multi_head")
OPTIONS = {"squeeze_excitation": {"reduction": 4}, "cbam": {"reduction": 4}, "coordinate": {}}
Run = Callable[[Tensor], Tensor]


@functools.cache
def _attended(model: str, mechanism: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = MODELS[model]().eval()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    options = dict(OPTIONS.get(mechanism, {}))
    if mechanism == "multi_head":
        options["num_heads"] = 2
    new = regard.insert(
        plain, mechanism, at="residual", start="paper", example_input=image(), **options
    )
    return plain, new.eval()


def image(batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# In place of the model: another module or a function.


def deep_copy(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net)


def pickled(net: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(net))


def saved_whole(net: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def synchronized_batch_norm(net: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(net)


def timm_synchronized_batch_norm(net: nn.Module) -> nn.Module:
    return timm.layers.convert_sync_batchnorm(net)


def timm_freeze_batch_norm(net: nn.Module) -> nn.Module:
    return timm.utils.model.freeze_batch_norm_2d(net)


def timm_freeze(net: nn.Module) -> nn.Module:
    names = [name for name, _ in net.named_children()]
    timm.utils.freeze(net, names[:2], include_bn_running_stats=True)
    return net


def frozen_norms(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if "Norm" in type(module).__name__:
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad = False
    return net


def norm_eval(net: nn.Module) -> nn.Module:
    net.train()
    for module in net.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
            module.eval()
    return net.eval()


def torchvision_frozen_batch_norm(net: nn.Module) -> nn.Module:
    def convert(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.BatchNorm2d):
            frozen = torchvision.ops.FrozenBatchNorm2d(module.num_features, eps=module.eps)
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(frozen, name).copy_(getattr(module, name).detach())
            return frozen
        for name, child in module.named_children():
            setattr(module, name, convert(child))
        return module

    return convert(net)


def fused_by_hand(net: nn.Module) -> nn.Module:
    """Do what detectors do before they run: fold each norm into its convolution."""
    for module in net.modules():
        if isinstance(module, ConvNormAct):
            module.conv = nn.utils.fuse_conv_bn_eval(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fused
    return net


def folded_pairs(net: nn.Module) -> nn.Module:
    """Fold the norms of a ResNet into its convolutions, by their names."""
    if not hasattr(net, "layer1"):
        return net
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in stage:
            block.conv1 = nn.utils.fuse_conv_bn_eval(block.conv1, block.bn1)
            block.bn1 = nn.Identity()
    return net


def fx_fused(net: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse

    return fuse(net)


def fuse_modules(net: nn.Module) -> nn.Module:
    if not hasattr(net, "layer1"):
        return net
    return torch.ao.quantization.fuse_modules(net, [["conv1", "bn1", "relu"]])


def quantized(net: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(net, {nn.Linear})


def timm_ema(net: nn.Module) -> nn.Module:
    ema = timm.utils.ModelEmaV3(net, decay=0.5)
    ema.update(net)
    return ema.module


def averaged_model(net: nn.Module) -> nn.Module:
    averaged = torch.optim.swa_utils.AveragedModel(net)
    averaged.update_parameters(net)
    return averaged.module


def traced(net: nn.Module) -> Run:
    return torch.jit.trace(net, image(), check_trace=False)


def symbolically_traced(net: nn.Module) -> Run:
    return torch.fx.symbolic_trace(net)


def exported(net: nn.Module) -> Run:
    return torch.export.export(net, (image(),)).module()


def compiled(net: nn.Module) -> Run:
    torch._dynamo.reset()
    return torch.compile(net, backend="eager", fullgraph=True)


def functional(net: nn.Module) -> Run:
    parameters = {name: p.detach().clone() for name, p in net.named_parameters()}
    return lambda x: torch.func.functional_call(net, parameters, (x,))


def channels_last(net: nn.Module) -> Run:
    net.to(memory_format=torch.channels_last)
    return lambda x: net(x.contiguous(memory_format=torch.channels_last))


def checkpointed(net: nn.Module) -> Run:
    from torch.utils.checkpoint import checkpoint

    return lambda x: checkpoint(net, x, use_reentrant=False)


def checkpoint_wrapped(net: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
        apply_activation_checkpointing,
    )

    apply_activation_checkpointing(
        net, check_fn=lambda module: isinstance(module, (nn.BatchNorm2d, nn.Linear, nn.LayerNorm))
    )
    return net


def data_parallel(net: nn.Module) -> Run:
    replicas = nn.parallel.replicate
    assert callable(replicas)
    return nn.DataParallel(net)


def per_sample(net: nn.Module) -> Run:
    """Run one sample at a time through vmap, as per-sample gradients do."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    buffers = dict(net.named_buffers())

    def one(x: Tensor) -> Tensor:
        return torch.func.functional_call(net, (parameters, buffers), (x[None],))[0]

    return torch.func.vmap(one)


def reloaded_strictly(net: nn.Module) -> nn.Module:
    new = copy.deepcopy(net)
    for parameter in new.parameters():
        nn.init.zeros_(parameter)
    new.load_state_dict(net.state_dict(), strict=True)
    return new


def half_and_back(net: nn.Module) -> nn.Module:
    return net.double().float()


def pruned(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Linear):
            prune.identity(module, "weight")
    return net


def weight_normed(net: nn.Module) -> nn.Module:
    for module in [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]:
        nn.utils.parametrizations.weight_norm(module)
    return net


TREATMENTS: tuple[Callable[[nn.Module], nn.Module | Run], ...] = (
    deep_copy,
    pickled,
    saved_whole,
    synchronized_batch_norm,
    timm_synchronized_batch_norm,
    timm_freeze_batch_norm,
    timm_freeze,
    frozen_norms,
    norm_eval,
    torchvision_frozen_batch_norm,
    fused_by_hand,
    folded_pairs,
    fx_fused,
    fuse_modules,
    quantized,
    timm_ema,
    averaged_model,
    traced,
    symbolically_traced,
    exported,
    compiled,
    functional,
    channels_last,
    checkpointed,
    checkpoint_wrapped,
    data_parallel,
    per_sample,
    reloaded_strictly,
    half_and_back,
    pruned,
    weight_normed,
)


GRAPHS = {fx_fused, traced, symbolically_traced, exported}  # operations, and no modules of ours


LONG = {compiled, exported, traced, fx_fused}


@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("model", MODELS)
def test_attention_survives(model, treatment):
    survives(model, treatment, MECHANISMS[:1] if treatment in LONG else MECHANISMS)


@pytest.mark.slow
@pytest.mark.parametrize("treatment", LONG, ids=lambda f: f.__name__)
@pytest.mark.parametrize("model", MODELS)
def test_attention_survives_what_takes_long(model, treatment):
    survives(model, treatment, MECHANISMS[1:])


def survives(
    model: str, treatment: Callable[[nn.Module], nn.Module | Run], mechanisms: tuple[str, ...]
) -> None:
    x = image()
    for mechanism in mechanisms:
        plain, attended = _attended(model, mechanism)
        net = copy.deepcopy(attended)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            treated = treatment(net)
            got = treated(x)
        with torch.no_grad():
            wanted, without = attended(x), plain(x)
        error = (got - wanted).abs().max() / wanted.abs().max()
        effect = (wanted - without).abs().max() / wanted.abs().max()
        assert effect > 1e-3, mechanism
        bound = 0.05 if treatment is quantized else 1e-4
        assert error < bound, f"{mechanism}: off by {error:.2g}, without attention {effect:.2g}"
        if treatment not in GRAPHS and isinstance(treated, nn.Module):
            assert len(insertions(treated)) == len(insertions(attended)), mechanism
