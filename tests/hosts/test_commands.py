"""The command line knows the models of other libraries by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pictures import images
from torchvision.utils import save_image
from typer.testing import CliRunner

from regard.cli import app

pytestmark = pytest.mark.filterwarnings("default")


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    return found.output


def data(*arguments: str) -> Any:
    text = run(*arguments, "--json")
    return json.loads(text[text.index("{") :])


@pytest.mark.parametrize(
    "name", ["yolov8n", pytest.param("ultralytics/yolov8n", marks=pytest.mark.slow)]
)
def test_insert_into_a_yolo(name):
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    text = run("insert", name, "cbam", "--dry-run", "--set", "reduction=8")
    assert "cbam at 6 places, starting with γ = 0" in text
    assert 'regard.hosts.ultralytics.insert(yolo, "cbam", reduction=8)' in text


@pytest.mark.slow
def test_measure_and_explain_a_yolo(tmp_path):
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    plain = ("measure", "yolo11n", "--no-latency", "--depth", "0")
    found = data(*plain, "--insert", "se", "--set", "reduction=4")
    assert found["before"]["input"] == [[1, 3, 640, 640]]
    assert 2.6e6 < found["before"]["params"] < found["after"]["params"]
    assert 3.2e9 < found["before"]["macs"] < 3.4e9  # 6.5 GFLOPs, as ultralytics says
    save_image(images(1), tmp_path / "image.png")
    arguments = ("explain", "yolo11n", str(tmp_path / "image.png"), "--insert", "cbam")
    text = run(*arguments, "--set", "reduction=8", "--size", "64")
    assert "model.2.m.0.cv2.attentio" in text and "the weights are random" in text


def test_types_of_transformers():
    pytest.importorskip("transformers", reason="transformers is not installed")
    found = data("insert", "transformers/resnet", "se", "--dry-run")
    assert len(found["places"]) == 16
    assert found["after"]["params"] > found["before"]["params"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolov8q", 'no model "yolov8q"; did you mean "yolov8'),
        ("transformers/vitt", 'no model "transformers/vitt"; did you mean "vit"'),
        ("transformers/bert", "'bert' has no model that classifies, detects"),
        ("smp/unet", 'no library "smp"; there are timm/…, torchvision/…, ultralytics/…, transf'),
    ],
)
def test_unknown_names(name, message):
    library = "ultralytics" if name.startswith("yolo") else "transformers"
    pytest.importorskip(library, reason=f"{library} is not installed")
    found = CliRunner().invoke(app, ["measure", name])
    assert found.exit_code and message in f"{found.output}{found.exception}"
