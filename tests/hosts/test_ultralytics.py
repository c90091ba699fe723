"""Attention in the models of ultralytics, after what people do with them there."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import awake, distance, entries, folder, images, same_old_entries, settled
from torch import Tensor, nn

import regard
from regard.surgery import insertions, recipe

ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")

import regard.hosts.ultralytics as host  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")
RUN: dict[str, Any] = {
    "imgsz": 64,
    "batch": 4,
    "workers": 0,
    "plots": False,
    "device": "cpu",
    "verbose": False,
}


def yolo(name: str = "yolov8n") -> Any:
    return ultralytics.YOLO(f"{name}.yaml")


def alive(found: Any) -> Any:
    """A model whose outputs depend on the image."""
    settled(found.model, images(4))
    found.model.eval()
    return found


def plain_and_attended(at: Any = "residual", **options: Any) -> tuple[nn.Module, Any]:
    found = alive(yolo())
    plain = found.model
    host.insert(found, "squeeze_excitation", at, **{"reduction": 4, **options})
    return plain, found


def test_the_model_is_what_it_was():
    plain, found = plain_and_attended()
    x = images()
    assert len(insertions(found.model)) == 6 and not insertions(plain)
    assert distance(found.model(x), plain(x)) == 0
    assert same_old_entries(found.model, plain)
    awake(found.model)
    assert distance(found.model(x), plain(x)) > 1e-3
    alone = [y[:1] for y in (found.model(x)[0],)]
    assert distance(found.model(x[:1])[0], alone[0]) < 1e-5, "images are separate"


def test_a_trainer_builds_the_same_model_again():
    _, found = plain_and_attended(start="paper")
    trainer = object.__new__(ultralytics.models.yolo.detect.DetectionTrainer)
    trainer.data = {"nc": 80, "channels": 3}
    trainer.args = found.model.args
    again = trainer.get_model(cfg=found.model.yaml, weights=found.model, verbose=False).eval()
    assert recipe(again) == recipe(found.model) and len(recipe(again)) == 6
    x = images()
    assert distance(again(x), found.model(x)) < 1e-6


@pytest.mark.parametrize(
    ("at", "start"),
    [
        ("residual", "identity"),
        ("stage", "paper"),
        ("model.*.cv2.bn", "paper"),  # a norm that is folded
        ("model.*.cv2.conv", "paper"),  # between a convolution and its norm
        ("model.*", "identity"),
    ],
)
def test_fused_as_unfused(at, start):
    plain, found = plain_and_attended(at, start=start)
    net, x, number = awake(found.model), images(), len(insertions(found.model))
    assert number
    wanted, bare = net(x), plain(x)
    net.fuse(verbose=False)
    assert net.is_fused() or at == "model.*.cv2.conv"
    assert len(insertions(net)) == number
    assert distance(net(x), wanted) < 1e-5 < 1e-3 < distance(wanted, bare)
    net.fuse(verbose=False)
    assert distance(net(x), wanted) < 1e-5


def test_parallel_convolutions_with_attention_inside_are_not_added_up():
    found = alive(yolo("yolov9t"))
    plain = found.model
    inside = re.compile(r"model\.4\..*conv1$")
    host.insert(found, "se", at=inside, start="paper", reduction=2)
    x = images().double()
    net = found.model.double()
    wanted = net(x)
    assert distance(net.fuse(verbose=False)(x), wanted) < 1e-10
    assert distance(plain.double().fuse(verbose=False)(x), wanted) > 1e-4


@pytest.mark.slow
def test_patterns_leave_out_the_head():
    found = yolo()
    everything = host.insert(found.model, "simam", at=re.compile("."), skip="unfit")
    paths = {one.path for one in insertions(everything)}
    assert "model.21" in paths and "model.22" not in paths
    assert "model.22.cv2.0" in paths and not any("dfl" in path for path in paths)
    with pytest.raises(ValueError, match=r"'model\.22' is the head, whose output the loss reads"):
        host.insert(found, "simam", at="model.22")


@pytest.mark.slow
def test_places_do_not_depend_on_what_ran_before():
    first = recipe(host.insert(yolo().model, "simam", at="**", skip="unfit"))
    used = yolo().model
    used.train()(images(2, 96))
    used.eval()(images(1, 32))
    assert recipe(host.insert(used, "simam", at="**", skip="unfit")) == first


def test_wrong_models_are_refused():
    with pytest.raises(ValueError, match=r"nothing matches at='modul\.\*'; there are model"):
        host.insert(yolo(), "se", at="modul.*")
    with pytest.raises(TypeError, match="expected a YOLO or another model of ultralytics, got Lin"):
        host.insert(nn.Linear(2, 2), "se")
    fused = yolo()
    fused.model.fuse(verbose=False)
    with pytest.raises(ValueError, match="DetectionModel is fused, as predict"):
        host.insert(fused, "se", reduction=4)


def test_plain_insertion_names_the_call_to_use():
    net = yolo().model
    with pytest.warns(UserWarning, match="builds a DetectionModel anew from its YAML to train it"):
        new = regard.insert(net, "simam")
    with pytest.warns(UserWarning, match=r"regard\.hosts\.ultralytics\.remove\(yolo\) is for good"):
        regard.remove(new)
    with pytest.warns(UserWarning, match="replaced convolutions are kept by a loop of your own"):
        regard.replace(net, "selective_kernel", at="model.1.conv")


def test_what_is_removed_is_not_built_again():
    plain, found = plain_and_attended()
    host.remove(found, at="model.2.m.0.cv2")
    assert len(recipe(type(plain)(cfg=found.model.yaml, verbose=False))) == 5
    host.remove(found)
    assert "regard" not in found.model.yaml and not insertions(found.model)
    assert distance(found.model(images()), plain(images())) == 0


class Damped(regard.Attention):
    """A mechanism of a user's own, which a checkpoint names as pickles do."""

    def attention(self, z: Tensor) -> Tensor:
        return torch.full_like(z, 0.5)

    def combine(self, a: Tensor, z: Tensor) -> Tensor:
        return a * z


def test_a_class_of_ones_own_is_built_again():
    found = yolo()
    host.insert(found, Damped, start="paper")
    host.insert(found, "simam", at="stage")
    again = type(found.model)(cfg=found.model.yaml, verbose=False)
    assert recipe(again) == recipe(found.model) and len(recipe(again)) == 6 + 8


# names in YAML files

LAYERS = """
nc: 2
scales:
  n: [0.33, 0.25, 1024]
  s: [0.33, 0.50, 1024]
  x: [1.00, 1.25, 512]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
{0}
  - [-1, 3, C2f, [128, True]]
  - [-1, 1, Conv, [256, 3, 2]]
{1}
  - [-1, 1, Conv, [512, 3, 2]]
head:
  - [[2, 3, 4], 1, Detect, [nc]]
"""


def layers(folder: Path, scale: str, *named: str) -> Any:
    text = LAYERS
    for i in range(2):
        text = text.replace(f"{{{i}}}", named[i] if i < len(named) else "")
    if named:
        shift = len(named)
        text = text.replace("[[2, 3, 4]", f"[[{2 + 1}, {3 + 1}, {4 + shift}]")
    file = folder / f"yolov8{scale}-{len(named)}.yaml"
    file.write_text(text)
    return ultralytics.YOLO(str(file), task="detect")


@pytest.mark.parametrize(("scale", "channels"), [("n", 32), ("s", 64), ("x", 160)])
def test_mechanisms_are_layers_of_a_yaml_file(scale, channels, tmp_path):
    host.register()
    host.register()
    named = "  - [-1, 1, regard.CBAM, [{reduction: 8}]]", "  - [-1, 1, regard.SimAM, []]"
    found = layers(tmp_path, scale, *named)
    kinds = [(w.path, w.mechanism, w.channels) for w in insertions(found.model)]
    assert kinds == [
        ("model.2", "cbam", channels),
        ("model.5", "simam", 2 * channels),
    ]
    assert found.model.model[2].attention.mechanism.arguments["reduction"] == 8


def test_layers_that_only_moved_keep_their_weights(tmp_path):
    host.register()
    plain = alive(layers(tmp_path, "n"))
    named = "  - [-1, 1, regard.CBAM, [{reduction: 8}]]", "  - [-1, 1, regard.SimAM, []]"
    found = layers(tmp_path, "n", *named)
    plain.save(tmp_path / "plain.pt")
    found.load(str(tmp_path / "plain.pt"))
    found.model.eval()
    x = images()
    half = alive(layers(tmp_path, "n"))
    half.load(str(tmp_path / "plain.pt"))  # weights in half precision
    half.model.eval()
    assert distance(found.model(x), half.model(x)) == 0
    awake(found.model)
    assert distance(found.model(x), half.model(x)) > 1e-3
    # A trainer builds it from the YAML, and loads the weights at their numbers.
    again = type(found.model)(cfg=found.model.yaml, verbose=False).eval()
    again.load(found.model)
    assert distance(again(x), found.model(x)) < 1e-6
    wanted = found.model(x)
    assert distance(found.model.fuse(verbose=False)(x), wanted) < 1e-5
    # An insertion beside the layers is stored, and they are not stored twice.
    host.insert(again, "se", at="model.0", reduction=2)
    with pytest.raises(ValueError, match="has insertions already"):
        recipe(again).apply(again)
    both = host.insert(again, "se", at="model.0", reduction=2)
    assert len(both.yaml["regard"]["insertions"]) == 1
    assert len(recipe(type(both)(cfg=both.yaml, verbose=False))) == 3


FRESH = """
import sys
from ultralytics import YOLO
net = YOLO(sys.argv[1]).model
from regard.surgery import insertions
again = type(net)(cfg=net.yaml, verbose=False)
again.load(net)
print(len(insertions(again)), len(insertions(again.fuse(verbose=False))))
"""


@pytest.mark.slow
def test_a_fresh_process_builds_layers_again(tmp_path):
    host.register()
    found = layers(tmp_path, "n", "  - [-1, 1, regard.CBAM, [{reduction: 8}]]")
    found.save(tmp_path / "layers.pt")
    command = [sys.executable, "-W", "ignore", "-c", FRESH, str(tmp_path / "layers.pt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ["1", "1"]


def test_wrong_layers_are_refused(tmp_path):
    host.register()
    with pytest.raises(TypeError, match=r"cbam: expected options such as \{reduction: 8\}, got 8"):
        layers(tmp_path, "n", "  - [-1, 1, regard.CBAM, [8]]")
    with pytest.raises(TypeError, match='SimAM: no option "gain"'):
        layers(tmp_path, "n", "  - [-1, 1, regard.SimAM, [{gain: 8}]]")
    with pytest.raises(ValueError, match="simam: start must be 'identity' or 'paper', got 'end'"):
        layers(tmp_path, "n", "  - [-1, 1, regard.SimAM, [{start: end}]]")


# training


def test_gates_are_not_decayed():
    found = yolo()
    host.insert(found, "cbam", reduction=8)
    trainer = ultralytics.models.yolo.detect.DetectionTrainer
    optimizer = trainer.build_optimizer(
        object.__new__(trainer), found.model, name="SGD", lr=0.1, decay=0.01
    )
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays.keys() == {id(p) for p in found.model.parameters()}
    for name, parameter in found.model.named_parameters():
        if ".attention." in name:
            assert (decays[id(parameter)] > 0) == (parameter.dim() > 1), name


@pytest.mark.slow
def test_further_processes_start_from_the_attended_model(tmp_path, monkeypatch):
    """What a process gets that the trainer starts; running several needs several GPUs there."""
    found = yolo()
    host.insert(found, "se", reduction=4)
    awake(found.model)
    trainer = ultralytics.models.yolo.detect.DetectionTrainer
    overrides = {**RUN, "data": folder(tmp_path / "data"), "project": str(tmp_path), "epochs": 1}
    one = trainer(overrides={**overrides, "model": "yolov8n.yaml"})
    one.model = one.get_model(cfg=found.model.yaml, weights=found.model, verbose=False)
    one.world_size, one.ddp = 2, True
    states = []

    def read(command: list[str], **_: Any) -> None:
        program = next(Path(part) for part in command if part.endswith(".py"))
        (file,) = re.findall(r"torch_load\('([^']+)'", program.read_text("utf-8"))
        states.append(torch.load(file, weights_only=False))

    monkeypatch.setattr(subprocess, "run", read)
    one.train()
    other = states[0]["model"]
    assert len(insertions(other)) == 6
    wanted = {n: x for n, x in entries(one.model).items() if "attention" in n}
    state = entries(other)
    assert len(wanted) and all(torch.equal(state[name], x) for name, x in wanted.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchscript", "onnx", "openvino"])
def test_exported_as_attended(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, found = plain_and_attended("model.*.cv2.bn", start="paper")
    host.insert(found, "cbam", at="stage", start="paper", reduction=4)
    x = images(1)
    wanted, bare = found.model(x)[0], plain(x)[0]
    if kind == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(found.export(format=kind, imgsz=64, device="cpu"))
    if kind == "torchscript":
        got = torch.jit.load(str(file))(x)
    elif kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file))
        got = torch.tensor(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    else:
        import openvino

        compiled = openvino.Core().compile_model(str(next(file.glob("*.xml"))), "CPU")
        got = torch.tensor(compiled(x.numpy())[0])
    got = got[0] if isinstance(got, (list, tuple)) else got
    assert distance(got, wanted) < (1e-2 if kind == "openvino" else 1e-4)
    assert distance(got, bare) > 2e-2
    assert len(insertions(found.model)) == len(recipe(found.model)) > 10
