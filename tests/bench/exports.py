"""`python -m tests.bench.exports`: exported float32 files on 20 sets of varied pictures, against the limits.

Sizes from 100 to 4000 pixels, and what photographs come as: grey, CMYK, turned by EXIF, palette, 16 bits,
transparent. Each picture is decoded as the pipeline does it, and answered by the network in torch and by the
file in ONNX Runtime. Columns: view pixels that differ, largest difference of logits and of probabilities,
share of equal answers.
"""

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.special import softmax
from torch import from_numpy

from steps.core.backbones.network import Network
from steps.core.export.onnx_export import export_onnx
from steps.core.export.parity import differences, open_session, run
from steps.core.modalities.image.onnx_input import ImageInputModule
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.tasks.metrics import SingleLabelPredictions
from steps.runtime.phase import all_configs
from tests.core.toys import build, graph_of

LIMITS = all_configs(Path(__file__).resolve().parents[2] / "params.yaml")["promote"].parity.fp32
SIZES = ((100, 200), (200, 500), (500, 1200), (1200, 2500), (2500, 4000))
TEMPERATURE = 0.7
ROTATED = 0x0112  # EXIF tag of the orientation


def scene(seed: int, low: int, high: int) -> Image.Image:
    """Draw a picture with shapes, fine texture and grain, its sides within the range."""
    draw = np.random.default_rng(seed)
    width, height = (int(side) for side in draw.integers(low, high + 1, 2))
    coarse = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    fine = Image.fromarray(
        draw.integers(0, 256, (max(height // 5, 1), max(width // 5, 1), 3), dtype=np.uint8)
    )
    layers = [one.resize((width, height), Image.Resampling.BICUBIC) for one in (coarse, fine)]
    grain = draw.integers(-9, 10, (height, width, 1), dtype=np.int16)
    pixels = np.asarray(Image.blend(*layers, 0.35)).astype(np.int16) + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image, seed: int) -> bytes:
    """Save with one of the eight orientations of EXIF."""
    exif = Image.Exif()
    exif[ROTATED] = 1 + seed % 8
    return saved(image, "JPEG", quality=90, exif=exif.tobytes())


def deep(image: Image.Image) -> bytes:
    """Save in grey with 16 bits."""
    return saved(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")


WAYS: Mapping[str, Callable[[Image.Image, int], bytes]] = {
    "JPEG": lambda image, seed: saved(image, "JPEG", quality=88),
    "JPEG, strongly compressed": lambda image, seed: saved(image, "JPEG", quality=30),
    "JPEG, turned": turned,
    "JPEG, grey": lambda image, seed: saved(image.convert("L"), "JPEG"),
    "JPEG, CMYK": lambda image, seed: saved(image.convert("CMYK"), "JPEG"),
    "PNG": lambda image, seed: saved(image, "PNG", compress_level=1),
    "PNG, palette": lambda image, seed: saved(image.quantize(64), "PNG", compress_level=1),
    "PNG, grey of 16 bits": lambda image, seed: deep(image),
    "PNG, transparent": lambda image, seed: saved(image.convert("RGBA"), "PNG", compress_level=1),
    "WEBP": lambda image, seed: saved(image, "WEBP", method=0),
}
SETS = tuple(
    (f"{way}, {low} to {high}", way, (low, high))
    for n, way in enumerate(WAYS)
    for low, high in (SIZES[n % 5], SIZES[(n + 2) % 5])
)
"""20 sets: each way to save, in two ranges of sizes."""


def compare(
    network: Network, preprocessing: Preprocessing, file: bytes, way: str, sizes: tuple[int, int], count: int
) -> dict[str, float]:
    """Return how a file answers one set differently from the network; `pixels`: of views, that differ."""
    from steps.core.evaluation.inference import predict_views

    graph, module = graph_of(preprocessing), ImageInputModule(preprocessing)
    data = [WAYS[way](scene(seed, *sizes), seed) for seed in range(count)]
    samples = [preprocessing.decode(one) for one in data]
    views = [preprocessing.view(sample) for sample in samples]
    raws = [graph.encode(sample) for sample in samples]
    pixels = sum(
        int((module.view(from_numpy(one)[None])[0] != view.float()).sum())
        for one, view in zip(raws, views, strict=True)
    )
    wanted = predict_views(network, preprocessing, views)
    judged = SingleLabelPredictions(wanted, wanted.argmax(axis=1), TEMPERATURE)
    logits, probabilities = run(open_session(file), raws)
    np.testing.assert_allclose(probabilities, softmax(logits / TEMPERATURE, axis=1), atol=1e-5)
    return {"pixels": pixels, **differences((logits, probabilities), judged)}


def keeps(found: Mapping[str, float]) -> bool:
    """Say whether a set keeps to the limits of params.yaml, and every pixel is the same."""
    return (
        found["pixels"] == 0
        and found["largest_logit_difference"] <= LIMITS.logits
        and found["largest_difference"] <= LIMITS.probabilities
        and found["agreement"] >= LIMITS.top1
    )


def main() -> None:
    """Compare on all sets; the number of pictures in each may be given."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    preprocessing = Preprocessing(160, 182, "bicubic", (0.5,) * 3, (0.5,) * 3)
    network = build("tf_efficientnet_lite0", 160)
    file = export_onnx(network, graph_of(preprocessing), TEMPERATURE)
    table = Table("set", "pixels", "logits", "probabilities", "agreement", "within the limits")
    for name, way, sizes in SETS:
        found = compare(network, preprocessing, file, way, sizes, count)
        figures = (found["largest_logit_difference"], found["largest_difference"], found["agreement"])
        table.add_row(name, f"{found['pixels']:.0f}", *(f"{x:.2g}" for x in figures), str(keeps(found)))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
