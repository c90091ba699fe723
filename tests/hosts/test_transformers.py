"""Attention in the models of transformers: saved, loaded, trained, adapted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import awake, distance, gates, images, same_old_entries, settled
from torch import Tensor, nn

import regard
from regard.surgery import insertions, recipe

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import regard.hosts.transformers as host  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")
SMALL = {"num_labels": 3}
VIT = {
    **SMALL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}


def model(kind: str) -> nn.Module:
    t = transformers
    if kind == "vit":
        return t.ViTForImageClassification(t.ViTConfig(**VIT)).eval()
    if kind == "resnet":
        sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
        config = t.ResNetConfig(**SMALL, **sizes, layer_type="basic")
        return settled(t.ResNetForImageClassification(config).eval(), images(4))
    if kind == "segformer":
        sizes = {"hidden_sizes": [16, 32, 32, 32], "depths": [1] * 4, "decoder_hidden_size": 32}
        config = t.SegformerConfig(**SMALL, **sizes, num_attention_heads=[1, 2, 2, 2])
        return settled(t.SegformerForSemanticSegmentation(config).eval(), images(4))
    if kind == "videomae":
        config = t.VideoMAEConfig(**VIT, num_frames=4)
        return t.VideoMAEForVideoClassification(config).eval()
    if kind == "dpt":
        sizes = {"neck_hidden_sizes": [8, 16, 16, 16], "fusion_hidden_size": 16}
        config = t.DPTConfig(
            **{**VIT, "num_hidden_layers": 4}, **sizes, backbone_out_indices=[0, 1, 2, 3]
        )
        return t.DPTForDepthEstimation(config).eval()
    layers = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "num_queries": 16}
    layers |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    layers |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "depths": [1] * 4}
    if kind == "detr":
        backbone = t.ResNetConfig(**sizes, layer_type="basic", out_features=["stage4"])
        no = {"use_timm_backbone": False, "use_pretrained_backbone": False}
        net = t.DetrForObjectDetection(
            t.DetrConfig(**no, **layers, **SMALL, backbone_config=backbone)
        )
    else:
        stages = ["stage2", "stage3", "stage4"]
        backbone = t.RTDetrResNetConfig(**sizes, layer_type="basic", out_features=stages)
        widths = {"encoder_in_channels": [16, 32, 32], "decoder_in_channels": [32] * 3}
        net = t.RTDetrForObjectDetection(
            t.RTDetrConfig(
                **layers, **SMALL, **widths, backbone_config=backbone, encoder_hidden_dim=32
            )
        )
    return settled(net.eval(), images(4))


def example(kind: str, number: int = 2) -> dict[str, Tensor]:
    x = images(number)
    return {"pixel_values": x[:, None].repeat(1, 4, 1, 1, 1) if kind == "videomae" else x}


def answers(output: Any) -> list[Tensor]:
    names = ("logits", "pred_boxes", "predicted_depth")
    return [output[name] for name in names if name in output]


AT = {"resnet": "residual", "vit": "vit.layers.0.[am]*", "detr": "model.encoder.layers.0"}


def attended(kind: str, start: str = "paper") -> tuple[nn.Module, nn.Module]:
    plain = model(kind)
    new = host.insert(
        plain,
        "squeeze_excitation",
        AT.get(kind, "residual"),
        start=start,
        skip="unfit",
        reduction=4,
        example_input=example(kind),
    )
    return plain, new


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    return attended("vit")


@pytest.mark.parametrize("kind", ["vit", "resnet", "segformer", "detr", "rtdetr"])
def test_saved_and_loaded(kind, tmp_path):
    plain, new = attended(kind)
    number, x = len(insertions(new)), example(kind)
    assert number and same_old_entries(new, plain)
    new.save_pretrained(tmp_path)
    wanted, bare = answers(new(**x)), answers(plain(**x))
    assert distance(wanted, bare) > 1e-3
    auto = {"vit": "ImageClassification", "resnet": "ImageClassification"}.get(kind)
    makers = [host.from_pretrained, type(plain).from_pretrained]
    makers += [getattr(transformers, f"AutoModelFor{auto}").from_pretrained] if auto else []
    for make in makers:
        loaded = make(tmp_path)
        assert recipe(loaded) == recipe(new) and len(insertions(loaded)) == number
        assert distance(answers(loaded(**x)), wanted) == 0
    alone = answers(new(**example(kind, 2)))
    first = answers(new(pixel_values=x["pixel_values"][:1]))
    assert distance(first, [y[:1] for y in alone]) < 1e-4, "images are separate"
    start = attended(kind, "identity")[1]
    assert distance(answers(start(**x)), answers(attended(kind, "identity")[0](**x))) >= 0


def test_the_start_is_what_it_was(pair):
    plain, _ = pair
    x = example("vit")
    new = host.insert(plain, "cbam", "vit.layers.0.[am]*", reduction=4, example_input=x)
    assert torch.equal(new(**x).logits, plain(**x).logits)
    assert distance(awake(new)(**x).logits, plain(**x).logits) > 1e-3


def test_a_base_checkpoint_starts_as_inserted(pair, tmp_path):
    """Attention whose weights are missing is new, and never what was in memory."""
    plain, _ = pair
    x = example("vit")
    plain.save_pretrained(tmp_path)
    new = host.insert(plain, "cbam", "vit.layers.0.[am]*", reduction=4, example_input=x)
    loaded = type(plain).from_pretrained(tmp_path, config=new.config)
    assert len(insertions(loaded)) == len(insertions(new)) > 0
    assert torch.equal(loaded(**x).logits, plain(**x).logits)
    for name, wanted in new.state_dict().items():
        got = loaded.state_dict()[name]
        assert got.isfinite().all(), name
        if wanted.numel() > 16 and wanted.std() > 0:
            assert 0.5 < got.std() / wanted.std() < 2, name


class Own(transformers.ResNetForImageClassification):
    """A class of a user's own, which inserts while it is constructed."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.resnet = regard.insert(self.resnet, "cbam", reduction=4, example_input=images())


def test_a_class_of_ones_own_loads_a_base_checkpoint(tmp_path):
    host.register()
    plain, x = model("resnet"), images()
    plain.save_pretrained(tmp_path)
    new = Own.from_pretrained(tmp_path)
    assert len(insertions(new)) == 2
    assert torch.equal(new(x).logits, plain(x).logits)
    assert all(p.isfinite().all() for p in regard.attention_parameters(new))


def test_what_is_removed_is_not_saved(pair, tmp_path):
    _, new = pair
    back = regard.remove(new)
    back.save_pretrained(tmp_path)
    assert "regard" not in json.loads((tmp_path / "config.json").read_text("utf-8"))
    with pytest.raises(ValueError, match=r"has no recipe in its config\.json"):
        host.from_pretrained(tmp_path)
    # A plain insertion is saved too, once transformers is prepared.
    again = regard.insert(back, "simam", "vit.layers.0.mlp", example_input=example("vit"))
    again.save_pretrained(tmp_path)
    assert len(insertions(host.from_pretrained(tmp_path))) == 1


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="expected a PreTrainedModel of transformers, got Linear"):
        host.insert(nn.Linear(2, 2), "se")


@pytest.mark.parametrize("kind", ["videomae", "dpt"])
def test_additions_to_an_argument_are_seen(kind):
    """Their blocks give the shortcut to the module that ends the branch, which adds it."""
    net, x = model(kind), example(kind)
    paths = [one.path for one in regard.plan(net, "simam", example_input=x)]
    name = {"videomae": "videomae.encoder.layer", "dpt": "dpt.encoder.layer"}[kind]
    ends = [path for path in paths if path.startswith(f"{name}.0.")]
    assert ends == [f"{name}.0.attention", f"{name}.0.output.dense"]
    blocks = [one.path for one in regard.plan(net, "simam", "block", example_input=x)]
    assert f"{name}.0" in blocks and f"{name}.0.output" not in blocks


def test_queries_are_no_image():
    net, x = model("rtdetr"), example("rtdetr")
    found = {one.path: one for one in regard.plan(net, "se", reduction=4, example_input=x)}
    assert found["model.decoder.layers.0.mlp"].layout.grid == ()
    assert found["model.encoder.aifi.0.layers.0.mlp"].layout.grid == (2, 2)
    with pytest.warns(UserWarning, match=r"model\.decoder\.layers\.0\.mlp +Coordinate needs"):
        plan = regard.plan(net, "coordinate", example_input=x)
    assert "model.decoder.layers.0.mlp" in plan.skipped


def test_what_a_detr_leaves_open_is_decided_by_layout():
    """Its queries are sixteen, which are no image of four by four."""
    net, x = model("detr"), example("detr")
    at = "model.decoder.layers.0.mlp"
    with pytest.raises(ValueError, match=r"either \(b n c\) or \(n b c\); pass layout"):
        regard.plan(net, "se", at, reduction=4, example_input=x)
    (one,) = regard.plan(net, "se", at, layout="b n c", reduction=4, example_input=x)
    assert one.layout.grid == () and one.channels == 32
    with pytest.raises(ValueError, match=r"its tokens \(b n c\) have no known grid"):
        regard.plan(net, "coordinate", at, layout="b n c", example_input=x)
    first = host.insert(net, "se", at, layout="b n c", start="paper", reduction=4, example_input=x)
    alone = answers(first(pixel_values=x["pixel_values"][:1]))
    assert distance(alone, [y[:1] for y in answers(first(**x))]) < 1e-4, "images are separate"


def test_measured_and_explained(pair):
    _, new = pair
    counts = [regard.measure(net, **example("vit"), latency=False) for net in pair]
    added = sum(p.numel() for p in regard.attention_parameters(new))
    assert counts[1].params - counts[0].params == added and counts[1].macs > counts[0].macs
    maps = regard.explain(new, **example("vit")).values()
    assert sum(not one.function for one in maps) == len(insertions(new))  # the others are its own


# training


class Pictures(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"pixel_values": images(8)[i], "labels": i % 3}


def trainer(net: nn.Module, folder: Any, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=4,
        save_strategy="steps",
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
        learning_rate=1e-2,
        weight_decay=0.1,
        dataloader_pin_memory=False,
        **options,
    )
    return transformers.Trainer(model=net, args=arguments, train_dataset=Pictures())


def test_gates_are_not_decayed(pair, tmp_path):
    plain, _ = pair
    new = host.insert(
        plain, "cbam", "vit.layers.0.[am]*", reduction=4, example_input=example("vit")
    )
    decayed = set(trainer(new, tmp_path).get_decay_parameter_names(new))
    theirs = set(trainer(plain, tmp_path).get_decay_parameter_names(plain))
    added = {id(p) for p in regard.attention_parameters(new)}
    for name, p in new.named_parameters():
        if id(p) in added:
            assert (name in decayed) == (p.dim() > 1), name
        else:
            assert (name in decayed) == (name.replace("._attended", "") in theirs), name


def test_trained_and_resumed(tmp_path):
    plain = model("resnet")
    new = host.insert(plain, "cbam", reduction=4, example_input=example("resnet"))
    before, number = gates(new), len(insertions(new))
    first = trainer(new, tmp_path, max_steps=4)
    first.train()
    assert len(insertions(first.model)) == number
    moved = [not torch.equal(a, b) for a, b in zip(gates(first.model), before, strict=True)]
    assert all(moved)
    saved = host.from_pretrained(str(tmp_path / "checkpoint-4")).eval()
    x = example("resnet")
    assert distance(saved(**x).logits, first.model.eval()(**x).logits) < 1e-6
    again = host.insert(plain, "cbam", reduction=4, example_input=example("resnet"))
    second = trainer(again, tmp_path, max_steps=6)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert second.state.global_step == 6 and len(insertions(second.model)) == number


PROCESS = """
import sys
sys.path[:0] = sys.argv[2:]
import torch, transformers
from test_transformers import example, host, insertions, model, trainer
torch.set_num_threads(1)
torch.manual_seed(0)
new = host.insert(model("resnet"), "cbam", reduction=4, example_input=example("resnet"))
run = trainer(new, sys.argv[1], max_steps=2, ddp_backend="gloo")
assert run.args.world_size == 2
run.train()
run.save_model()
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROCESS)
    here = str(Path(__file__).parent)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    command += ["--master_port=29571", str(script), str(tmp_path / "out"), here]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = host.from_pretrained(str(tmp_path / "out"))
    torch.manual_seed(0)
    start = host.insert(model("resnet"), "cbam", reduction=4, example_input=example("resnet"))
    assert recipe(loaded) == recipe(start)
    assert all(not torch.equal(a, b) for a, b in zip(gates(loaded), gates(start), strict=True))


def test_accelerate(pair):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    _, new = pair
    net = accelerate.Accelerator(cpu=True).prepare(new)
    assert len(insertions(net)) == len(insertions(new))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_adapters_of_peft_beside_it(kind, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    plain, new = attended(kind)
    x = example(kind)
    wanted = new(**x).logits
    names = host.modules_to_save(new)
    assert len(names) == len(insertions(new))
    targets = "all-linear" if kind == "vit" else r".*convolution"
    config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=[*names, "classifier"])
    adapted = peft.get_peft_model(new, config).eval()
    assert distance(adapted(**x).logits, wanted) < 1e-6
    asking = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert any("lora_A" in n for n in asking)
    assert all(any(f"{name}.modules_to_save" in n for n in asking) for name in names)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**x).logits.square().sum().backward()
        optimizer.step()
    got = adapted.eval()(**x).logits
    assert distance(got, wanted) > 1e-3
    adapted.save_pretrained(tmp_path / "adapter")
    base = attended(kind)[1]
    base.load_state_dict(new_state(plain, base))
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert distance(loaded(**x).logits, got) < 1e-5
    merged = loaded.merge_and_unload()
    assert distance(merged(**x).logits, got) < 1e-4 and len(insertions(merged)) == len(names)


def new_state(plain: nn.Module, base: nn.Module) -> dict[str, Tensor]:
    """The entries of the plain model, and those of the attention."""
    return {**base.state_dict(), **plain.state_dict()}
