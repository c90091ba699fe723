"""The usual recipe: a trained network, attention inserted, trained alone, then all of it.

Run: ``python examples/insert_and_train.py``

The digits are scikit-learn's; a network of yours comes with its own weights and data.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

import regard


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images and labels to train with, and to test with."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16
    y = torch.from_numpy(labels)
    return x[:1200], y[:1200], x[1200:], y[1200:]


def train(model: nn.Module, groups: list[dict], x: Tensor, y: Tensor, epochs: int) -> None:
    """Train the parameters of the groups."""
    optimizer = torch.optim.AdamW(groups)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of digits that are recognized."""
    return (model(x).argmax(1) == y).float().mean().item()


def main() -> None:
    """Follow the recipe, and print the accuracy at every step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs
    torch.manual_seed(0)
    x, y, x_test, y_test = digits()

    plain = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=10, in_chans=1, channels=(16, 32, 32, 64))
    train(plain, regard.parameter_groups(plain, 1e-3, weight_decay=0.05), x, y, epochs)
    print(f"trained without attention     {accuracy(plain, x_test, y_test):.1%}")

    model = regard.insert(plain, "cbam", at="residual", example_input=x[:2], reduction=4)
    print(f"inserted, nothing trained yet {accuracy(model, x_test, y_test):.1%}")

    regard.freeze(model)
    train(model, regard.parameter_groups(model, 1e-3, attention_lr=1e-2), x, y, epochs)
    print(f"attention trained alone       {accuracy(model, x_test, y_test):.1%}")
    same = torch.equal(regard.remove(model)(x_test), plain(x_test))
    print(f"without it, the network is what it was: {same}")

    regard.unfreeze(model)
    groups = regard.parameter_groups(model, 1e-4, attention_lr=1e-3, weight_decay=0.05)
    train(model, groups, x, y, epochs)
    print(f"everything trained            {accuracy(model, x_test, y_test):.1%}")


if __name__ == "__main__":
    main()
