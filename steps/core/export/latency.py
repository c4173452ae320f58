"""How fast networks answer on this machine, and how large their files are: what a budget is held to.

Timings vary from run to run. Two things keep the choice stable: all
networks are timed in alternation, and the result is kept in the scratch folder under a name that stands for
machine, versions, architectures and sample. Every later run there, whatever its engine or seed, reads the
same figures. They are no part of any digest; the choice that follows from them is.
"""

import copy
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from steps.core.backbones.network import Network
from steps.core.export.onnx_export import export_onnx
from steps.core.export.parity import interleaved_latencies, open_session
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Preprocessing
from steps.core.system.storage import to_json, write_file

VERSIONS = ("torch", "timm", "onnx", "onnxruntime")
CPU_FACTS = Path("/proc/cpuinfo")

Figures = dict[str, dict[str, float]]


def benchmark(
    networks: Mapping[str, Network],
    modality: Modality,
    preprocessing: Preprocessing,
    sample: bytes,
    latency_runs: int,
    scratch: Path,
) -> Figures:
    """Return latency_p50_ms, latency_p99_ms and megabytes of every network as a float32 ONNX file.

    The latency is of one sample in the size of `sample`, from decoded input to probabilities. What depends on
    the weights alone does not count: a network is known by its architecture.
    """
    graph = modality.input_graph(preprocessing)
    depends = {
        "machine": [processor_name(), os.cpu_count()],
        "versions": [metadata.version(name) for name in VERSIONS],
        "networks": {name: known_by(network) for name, network in networks.items()},
        "preprocessing": preprocessing.to_dict(),
        "size": graph.size(sample),
        "latency_runs": latency_runs,
    }
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    file = scratch / "benchmarks" / f"{key[:32]}.json"
    if file.is_file():
        kept: Figures = json.loads(file.read_bytes())
        return kept
    files = {name: export_onnx(copy.deepcopy(network), graph, 1.0) for name, network in networks.items()}
    sessions = {name: open_session(content) for name, content in files.items()}
    latencies = interleaved_latencies(
        sessions, {graph.name: graph.encode(preprocessing.decode(sample))[None]}, latency_runs
    )
    found = {name: {**latencies[name], "megabytes": round(len(files[name]) / 1e6, 3)} for name in networks}
    write_file(file, to_json(found))
    return found


def known_by(network: Network) -> list[Any]:
    """Return what tells the cost of one network from another's: stages, what the head reads, its size."""
    return [network.architecture(), network.readout.to_dict(), list(network.head.weight.shape)]


def processor_name() -> str:
    """Name this machine's processor."""
    lines = CPU_FACTS.read_text().splitlines() if CPU_FACTS.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
