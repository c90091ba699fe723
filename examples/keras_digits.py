"""Train, save and load a small Keras network with CBAM for scanned digits, and show its maps.

``KERAS_BACKEND=jax python examples/keras_digits.py``; TensorFlow and torch work too. It needs
scikit-learn, for the digits, and half a minute on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import regard.keras


def build() -> keras.Model:
    """Build two convolutions, each with attention after it; images may have any size."""
    x = image = keras.Input((None, None, 1))
    for stage, width in enumerate((16, 32)):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
        x = regard.keras.CBAM(reduction=4, kernel_size=3, name=f"attention{stage}")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))


def data(seed: int) -> list[np.ndarray]:
    """Return images of 8 x 8 pixels and labels, for training and, a fifth of them, for testing."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype("float32")
    x, x_held, y, y_held = train_test_split(
        images, digits.target, test_size=0.2, random_state=seed, stratify=digits.target
    )
    return [x, y, x_held, y_held]


def main(argv: list[str] | None = None) -> float:
    """Run from the command line; return the accuracy on the held-out digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    keras.utils.set_random_seed(args.seed)
    keras.config.set_image_data_format("channels_last")
    x, y, x_held, y_held = data(args.seed)

    model = build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=args.epochs)
    accuracy = model.evaluate(x_held, y_held, verbose=0, return_dict=True)["accuracy"]
    print(f"{100 * accuracy:.1f} % of the held-out digits")

    with TemporaryDirectory() as folder:
        path = Path(folder, "digits.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
    same = np.array_equal(loaded.predict(x_held, verbose=0), model.predict(x_held, verbose=0))
    print("saved and loaded, it predicts", "the same" if same else "something else")

    for name, a in regard.keras.maps(loaded)(x_held[:1]).items():
        print(f"{name} shows a map of {tuple(a.shape)}")
    return accuracy


if __name__ == "__main__":
    main()
