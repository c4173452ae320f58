"""Batch prediction beside bare decoding and ONNX Runtime on the same cores: `python -m tests.bench.batch`."""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from steps.core.export.batch import DeployedModel, list_unlabelled, predict_samples
from steps.core.export.onnx_export import export_onnx
from steps.core.modalities.image import modality as image
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.modalities.networks import build_network

NAME, SIDE, COUNT, ROUNDS = "tf_efficientnet_lite0", 160, 200, 5


def main() -> None:
    """Answer the same generated files in both ways, in turns, and print samples a second and their ratio."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        write_files(folder, int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
        preprocessing = Preprocessing(SIDE, SIDE + 16, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        weights = image.find_weights(NAME, "packaged", Path(place))
        network = build_network(image, NAME, preprocessing, 4, weights)
        meta = {
            "labels": list("abcd"),
            "temperature": 1.0,
            "modality": "image",
            "preprocessing": preprocessing.to_dict(),
        }
        graph = image.input_graph(preprocessing)
        model = DeployedModel(export_onnx(network, graph, 1.0), meta, part_samples=256)
        root, paths, stamps = list_unlabelled(str(folder), Path(place), image)
        session = model.session()

        def bare(path: str) -> None:
            sample = graph.encode(preprocessing.decode((folder / path).read_bytes()))
            session.run(["logits"], {graph.name: sample[None]})

        rates: dict[str, list[float]] = {"bare": [], "batch": []}
        for turn in range(ROUNDS + 1):  # the first one warms up
            begun = time.perf_counter()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(bare, paths))
            between = time.perf_counter()
            predict_samples(model, root, paths, stamps, Path(place) / str(turn))
            ended = time.perf_counter()
            if turn:
                rates["bare"].append(len(paths) / (between - begun))
                rates["batch"].append(len(paths) / (ended - between))
        ratios = [b / a for a, b in zip(rates["bare"], rates["batch"], strict=True)]
        print(f"{len(paths)} files of 640 x 480, {NAME} at {SIDE}, {os.cpu_count()} cores, {ROUNDS} rounds")
        for name, found in rates.items():
            print(f"{name}: {median(found):.1f} samples a second ({min(found):.1f} to {max(found):.1f})")
        print(f"ratio: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def write_files(folder: Path, count: int) -> None:
    """Write smooth noise as JPEG files of 640 x 480."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        whole = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        whole.save(folder / f"{number:04d}.jpg", quality=90)


if __name__ == "__main__":
    main()
