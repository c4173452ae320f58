from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from steps.core.backbones.readout import Readout
from steps.core.features.vectors import read_vectors
from tests.core.toys import PREPROCESSING, Pictures, extractor, image_network, samples_of


@dataclass
class Kept:
    """A cache of features."""

    index_table: pd.DataFrame
    shards: dict[str, Path]
    meta: dict[str, Any] = field(default_factory=dict)


def test_what_a_head_reads_is_put_together_from_the_stages_in_the_order_of_the_index(
    pictures: Pictures, tmp_path: Path
) -> None:
    network = image_network("test_resnet", 3, 32)
    worker = extractor(network, None, tmp_path)
    index = pictures.index()
    rows = [index.iloc[first : first + 5] for first in range(0, len(index), 5)]
    shards = {f"{n}": worker.shard(pictures.folder(), samples_of(part), 0) for n, part in enumerate(rows)}
    parts = [part.assign(shard=f"{n}", row=range(len(part))) for n, part in enumerate(rows)]
    cache = Kept(pd.concat(parts[::-1], ignore_index=True), shards)
    for reading in (Readout.top(5), Readout(2, 4, False), Readout(1, 5, True)):
        cut = image_network("test_resnet", 3, 32, readout=reading)
        cut.load_state(
            {
                **cut.state(),
                **{k: v for k, v in network.state().items() if k in cut.state() and "head" not in k},
            }
        )
        found = read_vectors(cache, reading)
        views = [worker.views.read(pictures.folder().read(path)) for path in cache.index_table["path"]]
        with torch.inference_mode():
            wanted = cut.embed(PREPROCESSING.batch([PREPROCESSING.view(x) for x in views], cut.device))
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=2e-4)
