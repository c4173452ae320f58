"""Everything that may be fed to the pipeline and is bad: refused by name, with a remedy, nothing written.

`python -m tests.test_bad_inputs` prints the table.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from steps import PHASES
from steps.adapt_backbone import AdaptBackbone, adapt_backbone
from steps.artifacts.backbone import Backbone
from steps.artifacts.dataset import Dataset, Manifest
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier
from steps.artifacts.plan import Plan
from steps.cache_features import cache_features
from steps.core.backbones.settings import BackboneConfig
from steps.core.system.errors import (
    ArtifactError,
    BackboneError,
    DataError,
    DataRejected,
    HeadstartError,
    ParamsError,
)
from steps.core.system.storage import INDEX, to_json
from steps.measure_stats import measure_stats
from steps.runtime.phase import all_configs
from steps.validate_data import ValidateData, validate_data
from steps.warm_up_head import WarmUpHead, warm_up_head
from tests.clone import BACKBONE, ROOT, make_clone, write_images


class Loot:
    """An object whose pickle runs code when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        """Leave a mark."""
        return os.mkdir, (os.environ["LOOT"],)


def png(width: int = 40, height: int = 32, seed: int = 0, **options: Any) -> bytes:
    """Return a picture's file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claimed(width: int, height: int) -> bytes:
    """Return a PNG of which only the header is large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """Return a PNG with a comment that unpacks to 200 MB."""
    packed = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    data = png()
    return data[:33] + chunk(b"zTXt", packed) + data[33:]


def tiff(pixels: np.ndarray[Any, Any]) -> bytes:
    """Return a TIFF file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF")
    return buffer.getvalue()


def not_numbers() -> bytes:
    """Return a float TIFF with NaN among its pixels."""
    pixels = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    pixels[3] = np.nan
    return tiff(pixels)


def jpeg(**options: Any) -> bytes:
    """Return a JPEG file."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png())).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(png())
        file.truncate(3 * 2**30)


Make = Callable[[Path], object]


def content(data: Callable[[], bytes]) -> Make:
    """Make a file with this content."""
    return lambda path: path.write_bytes(data())


PICTURES: dict[str, tuple[str, Make, str]] = {
    "PNG cut short": ("a.png", content(lambda: png()[:-40]), "cannot be decoded"),
    "JPEG cut short": ("b.jpg", content(lambda: jpeg()[:-300]), "cannot be decoded"),
    "PNG with a flipped byte": ("c.png", content(lambda: flipped(png(), 200)), "cannot be decoded"),
    "empty file": ("d.png", content(lambda: b""), "not a readable image"),
    "web page called .jpg": ("e.jpg", content(lambda: b"<html>404</html>" * 9), "not a readable image"),
    "pickle called .png": ("f.png", content(lambda: pickle.dumps(Loot())), "not a readable image"),
    "header of 10 gigapixels": ("g.png", content(lambda: claimed(100_000, 100_000)), "too many pixels"),
    "header of 101 megapixels": ("h.png", content(lambda: claimed(10_100, 10_000)), "more than 100000000"),
    "text chunk that is a zip bomb": ("i.png", content(text_bomb), "(ValueError)"),
    "float TIFF with NaN pixels": ("j.tif", content(not_numbers), "mode F have no known range"),
    "TIFF of 32 bits": ("k.tif", content(lambda: tiff(np.full((9, 9), 7, np.int32))), "mode I have no"),
    "broken EXIF": ("l.jpg", content(lambda: jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")), ""),
    "named pipe": ("m.png", pipe, "neither a file nor a folder"),
    "file of 3 GB": ("n.png", sparse, "more than 1073741824"),
    "link that leads out": ("o.png", lambda path: path.symlink_to("/etc/hostname"), "leads out"),
    "link to itself": ("p.png", lambda path: path.symlink_to(path.name), "cannot be read"),
    "link to nothing": ("q.png", lambda path: path.symlink_to("gone.png"), "no such file: red/q.png"),
}  # fmt: skip


def flipped(data: bytes, place: int) -> bytes:
    """Flip a bit."""
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@dataclass(frozen=True)
class Bad:
    """One bad input: what is done with it, and what must come of it."""

    area: str
    kind: str
    error: type[HeadstartError]
    names: str
    """The file or key that the message names."""
    remedy: str
    act: Callable[["World"], object]


@dataclass(frozen=True)
class World:
    """A small project, as far as the warmed-up head, in a folder of its own; `config` reads its params."""

    folder: Path

    def config(self, phase: str, **changes: Any) -> Any:
        """Return a phase's config."""
        return all_configs(self.folder / "params.yaml")[phase].model_copy(update=changes)

    def artifact(self, name: str) -> Path:
        """Return where an artifact lies."""
        return self.folder / "artifacts" / name

    def load(self, name: str) -> Any:
        """Load an artifact, as a phase does."""
        return KINDS[name].load(self.artifact(name))

    def edit(self, name: str, file: str, change: Callable[[bytes], bytes], sealed: bool = False) -> None:
        """Change a file of an artifact, and if asked its entry in the index too."""
        path = self.artifact(name) / file
        path.write_bytes(change(path.read_bytes()))
        if sealed:
            index = json.loads((self.artifact(name) / INDEX).read_bytes())
            data = path.read_bytes()
            index["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            (self.artifact(name) / INDEX).write_bytes(to_json(index))

    def reindex(self, name: str, **changes: Any) -> None:
        """Change an artifact's index."""
        path = self.artifact(name) / INDEX
        path.write_bytes(to_json({**json.loads(path.read_bytes()), **changes}))

    def written(self) -> set[tuple[str, int, int]]:
        """Return every file that a later run could read, with size and time."""
        places = [*self.folder.glob("artifacts/**/*"), *self.folder.glob(".headstart/**/*")]
        return {(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in places if p.is_file()}


KINDS: dict[str, Any] = {
    "backbone": Backbone,
    "manifest": Manifest,
    "dataset": Dataset,
    "features": Features,
    "plan": Plan,
    "prefix": Features,
    "warm_head": Classifier,
}


def ingest(text: bytes, name: str = "list.csv") -> Callable[[World], object]:
    """Ingest a manifest with this content."""

    def act(world: World) -> object:
        from steps.ingest_data import ingest_data

        (world.folder / "images" / name).write_bytes(text)
        path = str(world.folder / "images" / name)
        return ingest_data(world.config("ingest_data", path=path, corrections=str(ROOT / "corrections.csv")))

    return act


def correct(text: bytes) -> Callable[[World], object]:
    """Ingest the folder with these corrections."""

    def act(world: World) -> object:
        from steps.ingest_data import ingest_data

        (world.folder / "fix.csv").write_bytes(text)
        paths = {"path": str(world.folder / "images"), "corrections": str(world.folder / "fix.csv")}
        return ingest_data(world.config("ingest_data", **paths))

    return act


def folder_of(*paths: str) -> Callable[[World], object]:
    """Ingest a folder of these pictures."""

    def act(world: World) -> object:
        from steps.ingest_data import ingest_data

        root = world.folder / "odd"
        for number, path in enumerate(paths):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(png(seed=number))
        return ingest_data(
            world.config("ingest_data", path=str(root), corrections=str(ROOT / "corrections.csv"))
        )

    return act


def params(change: Callable[[bytes], bytes]) -> Callable[[World], object]:
    """Read params.yaml after a change."""

    def act(world: World) -> object:
        path = world.folder / "params.yaml"
        path.write_bytes(change(path.read_bytes()))
        return all_configs(path)

    return act


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return a replacement that must find something to replace."""

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def validate(**changes: Any) -> Callable[[World], object]:
    """Validate the manifest with other limits."""
    return lambda world: validate_data(world.load("manifest"), world.config("validate_data", **changes))


def weights(
    write: Callable[[Path, Path], object], name: str = BACKBONE, file: str = "new.safetensors"
) -> Any:
    """Fill the cache with other weights."""

    def act(world: World) -> object:
        write(world.folder / "weights.safetensors", world.folder / file)
        cfg: AdaptBackbone = world.config("adapt_backbone")
        wanted = BackboneConfig(name=name, weights=str(world.folder / file))
        dataset = world.load("dataset")
        backbone = adapt_backbone(dataset, cfg.model_copy(update={"backbone": wanted}))
        return cache_features(dataset, backbone, stats_of(world), world.config("cache_features"))

    return act


def broken(world: World) -> object:
    """Ingest and validate with one picture that cannot be read, and none allowed."""
    from steps.ingest_data import ingest_data

    (world.folder / "images/red/broken.png").write_bytes(png()[:-40])
    found = {"path": str(world.folder / "images"), "corrections": str(ROOT / "corrections.csv")}
    manifest = ingest_data(world.config("ingest_data", **found))
    return validate_data(manifest, world.config("validate_data", max_unreadable=0.0))


def stats_of(world: World) -> Any:
    from steps.artifacts.stats import Stats

    return Stats.load(world.artifact("stats"))


def cut(old: Path, new: Path) -> None:
    new.write_bytes(old.read_bytes()[:-100])


def header(old: Path, new: Path) -> None:
    new.write_bytes(flipped(old.read_bytes(), 9))


def spoilt(old: Path, new: Path) -> None:
    state = load_file(old)
    save_file({k: torch.full_like(x, torch.nan) if x.ndim == 4 else x for k, x in state.items()}, new)


def poor(old: Path, new: Path) -> None:
    state = load_file(old)
    state.pop("conv_stem.weight")
    save_file(state, new)


def pickled(old: Path, new: Path) -> None:
    new.write_bytes(pickle.dumps(Loot()))


def opened(name: str, edit: Callable[[World], object]) -> Callable[[World], object]:
    """Damage an artifact, then load it."""

    def act(world: World) -> object:
        edit(world)
        return world.load(name)

    return act


def two_classes(world: World) -> None:
    world.edit("warm_head", "classifier.json", labelled(["blue", "red"]), sealed=True)


def labelled(labels: list[str]) -> Callable[[bytes], bytes]:
    return lambda data: to_json({**json.loads(data), "labels": labels})


def used(edit: Callable[[World], object]) -> Callable[[World], object]:
    """Damage the head, then build its network."""

    def act(world: World) -> object:
        edit(world)
        return world.load("warm_head").network()

    return act


def other_backbone(world: World) -> None:
    change = swap(BACKBONE.encode(), b"test_resnet")
    world.edit("warm_head", "classifier.json", change, sealed=True)


def vanished(world: World) -> object:
    path = world.load("dataset").table["path"].iloc[0]
    (world.folder / "images" / path).unlink()
    return cached_anew(world)


def changed(world: World) -> object:
    path = world.load("dataset").table["path"].iloc[0]
    (world.folder / "images" / path).write_bytes(png(seed=99))
    return cached_anew(world)


def cached_anew(world: World) -> object:
    shutil.rmtree(world.folder / ".headstart")
    (world.folder / ".headstart").mkdir()
    return cache_features(
        world.load("dataset"), world.load("backbone"), stats_of(world), world.config("cache_features")
    )


def measured(world: World) -> object:
    path = world.load("dataset").part("train")["path"].iloc[0]
    (world.folder / "images" / path).write_bytes(png(seed=98))
    return measure_stats(world.load("dataset"), world.load("backbone"), world.config("measure_stats"))


REFUSED = [
    Bad(
        "manifest",
        "labels in latin-1",
        DataError,
        "list.csv",
        "save it as",
        ingest("path,label\na.png,grün\n".encode("latin-1")),
    ),
    Bad(
        "manifest",
        "no label column",
        DataError,
        "list.csv",
        "name them",
        ingest(b"path,class\na.png,x\n"),
    ),
    Bad(
        "manifest",
        "a row too long",
        DataError,
        "list.csv",
        "save it as",
        ingest(b"path,label\na.png,x\nb.png,y,z,w\n"),
    ),
    Bad(
        "manifest",
        "a label of spaces",
        DataError,
        "list.csv line 2",
        "fill it in",
        ingest(b"path,label\na.png, \n"),
    ),
    Bad("manifest", "no rows", DataError, "list.csv", "write a line", ingest(b"path,label\n")),
    Bad(
        "manifest",
        "unknown split",
        DataError,
        "list.csv",
        "expected one of",
        ingest(b"path,label,split\na.png,x,holdout\n"),
    ),
    Bad(
        "manifest",
        "splits without train",
        DataError,
        "['test']",
        "name one of them",
        ingest(b"path,label,split\nred/000.png,x,test\n"),
    ),
    Bad("manifest", "binary called .csv", DataError, "list.csv", "save it as", ingest(b"\xff\xfe\0\0" * 9)),
    Bad(
        "manifest",
        "parquet cut short",
        DataError,
        "list.parquet",
        "save it as",
        ingest(b"PAR1" + bytes(99), "list.parquet"),
    ),
    Bad(
        "manifest",
        "pickle called .parquet",
        DataError,
        "list.parquet",
        "save it as",
        ingest(pickle.dumps([1]), "list.parquet"),
    ),
    Bad(
        "manifest",
        "a spreadsheet",
        DataError,
        "list.xlsx",
        "set ingest_data.path",
        ingest(b"PK\3\4", "list.xlsx"),
    ),
    Bad(
        "corrections",
        "in latin-1",
        DataError,
        "ingest_data.corrections",
        "save it as",
        correct("path,label\na,grün\n".encode("latin-1")),
    ),
    Bad(
        "corrections",
        "of a file that is not there",
        DataError,
        "gone.png",
        "remove the lines",
        correct(b"path,label\ngone.png,red\n"),
    ),
    Bad("corrections", "without columns", DataError, "fix.csv", "needs the columns", correct(b"a;b\n1;2\n")),
    Bad("folder", "no pictures", DataError, "odd", "expected class/file", folder_of("red/notes.doc")),
    Bad(
        "folder",
        "a picture in no class",
        DataError,
        "loose.png",
        "move it",
        folder_of("red/a.png", "loose.png"),
    ),
    Bad(
        "folder",
        "splits beside classes",
        DataError,
        "'train'",
        "expected split/class/file",
        folder_of("train/red/a.png", "red/b.png"),
    ),
    Bad(
        "params",
        "tabs",
        ParamsError,
        "params.yaml",
        "found character",
        params(lambda data: data + b"\nextra:\n\tkey: 1\n"),
    ),
    Bad(
        "params",
        "in latin-1",
        ParamsError,
        "params.yaml",
        "cannot be read as YAML",
        params(lambda data: data + "# grün\n".encode("latin-1")),
    ),
    Bad(
        "params",
        "a key twice",
        ParamsError,
        "params.yaml",
        "duplicate key",
        params(lambda data: data + b"\nseed: 1\n"),
    ),
    Bad(
        "params",
        "a tag that would run code",
        ParamsError,
        "params.yaml",
        "could not determine a constructor",
        params(swap(b"seed: 0", b"seed: !!python/object/apply:os.mkdir [loot]")),
    ),
    Bad(
        "params",
        "not a number",
        ParamsError,
        "search_lr_ratio.ratio_low",
        "expected a finite number",
        params(swap(b"ratio_low: 0.3", b"ratio_low: .nan")),
    ),
    Bad(
        "params",
        "a misspelt key",
        ParamsError,
        "cache_prefix.vews",
        "unknown key",
        params(swap(b"views:", b"vews:")),
    ),
    Bad(
        "params",
        "a password in a URL",
        ParamsError,
        "ingest_data.path",
        "without password",
        params(swap(b"path: images", b"path: ftp://me:canary@host/images")),
    ),
    Bad(
        "params",
        "a key in a URL",
        ParamsError,
        "ingest_data.path",
        "without password",
        params(swap(b"path: images", b"path: https://host/x.csv?sig=canary")),
    ),
    Bad(
        "data",
        "a label not in the list",
        DataRejected,
        "red/",
        "validate_data.labels",
        validate(labels=["blue", "green"]),
    ),
    Bad("data", "a broken picture too many", DataRejected, "red/broken.png", "repair the files", broken),
    Bad(
        "data",
        "suite that is no json",
        ParamsError,
        "validate_data.suite",
        "cannot be read",
        validate(suite=str(ROOT / "params.yaml")),
    ),
    Bad("data", "file gone between phases", DataError, ".png", "put it back", vanished),
    Bad(
        "data",
        "file changed before caching",
        DataError,
        ".png has changed",
        "run the same command again",
        changed,
    ),
    Bad(
        "data",
        "file changed before measuring",
        DataError,
        ".png has changed",
        "run the same command again",
        measured,
    ),
    Bad("weights", "cut short", BackboneError, "new.safetensors", "take the weights of", weights(cut)),
    Bad(
        "weights",
        "a flipped byte in the header",
        BackboneError,
        "new.safetensors",
        "take the weights of",
        weights(header),
    ),
    Bad(
        "weights",
        "of another architecture",
        BackboneError,
        "new.safetensors",
        "take the weights of",
        weights(shutil.copy, "test_resnet"),
    ),
    Bad(
        "weights", "a tensor missing", BackboneError, "new.safetensors", "take the weights of", weights(poor)
    ),
    Bad(
        "weights",
        "a pickle called .safetensors",
        BackboneError,
        "new.safetensors",
        "take the weights of",
        weights(pickled),
    ),
    Bad(
        "weights",
        "a torch checkpoint",
        BackboneError,
        "backbone.weights",
        "expected packaged, hub or",
        weights(pickled, file="new.pth"),
    ),
    Bad(
        "weights",
        "absent",
        BackboneError,
        "new.safetensors does not exist",
        "set it to",
        weights(lambda old, new: None),
    ),
    Bad("weights", "not finite", BackboneError, "backbone.weights", "take other weights", weights(spoilt)),
    Bad(
        "weights",
        "unknown backbone",
        BackboneError,
        "backbone.name",
        "similar",
        weights(shutil.copy, "test_efficientnot"),
    ),
    Bad(
        "weights",
        "a backbone by address",
        BackboneError,
        "backbone.name",
        "similar",
        weights(shutil.copy, "hf-hub:somebody/model"),
    ),
    Bad(
        "artifacts",
        "cut short",
        ArtifactError,
        "model.safetensors",
        "run the phase",
        opened("warm_head", lambda w: w.edit("warm_head", "model.safetensors", lambda d: d[:-9])),
    ),
    Bad(
        "artifacts",
        "a flipped byte",
        ArtifactError,
        "model.safetensors",
        "run the phase",
        opened(
            "warm_head", lambda w: w.edit("warm_head", "model.safetensors", lambda d: flipped(d, len(d) - 9))
        ),
    ),
    Bad(
        "artifacts",
        "a flipped byte in a shard",
        ArtifactError,
        "00000.safetensors",
        "run the phase",
        opened(
            "features",
            lambda w: w.edit("features", "00000.safetensors", lambda d: flipped(d, len(d) - 9)),
        ),
    ),
    Bad(
        "artifacts",
        "a file missing",
        ArtifactError,
        "index.parquet",
        "run the phase",
        opened("features", lambda w: (w.artifact("features") / "index.parquet").unlink()),
    ),
    Bad(
        "artifacts",
        "no index",
        ArtifactError,
        INDEX,
        "run the phase",
        opened("features", lambda w: (w.artifact("features") / INDEX).unlink()),
    ),
    Bad(
        "artifacts",
        "of an older format",
        ArtifactError,
        "version 0, expected Features version 1",
        "run the phase",
        opened("features", lambda w: w.reindex("features", version=0)),
    ),
    Bad(
        "artifacts",
        "of another kind",
        ArtifactError,
        "holds Dataset",
        "run the phase",
        opened("manifest", lambda w: w.reindex("manifest", kind="Dataset")),
    ),
    Bad(
        "artifacts",
        "an index that leads out",
        ArtifactError,
        "../../params.yaml",
        "run the phase",
        opened(
            "manifest",
            lambda w: w.reindex("manifest", files={"../../params.yaml": {"sha256": "0", "bytes": 1}}),
        ),
    ),
    Bad(
        "artifacts",
        "a pickle for a model, indexed",
        ArtifactError,
        "warm_head",
        "run the phase",
        opened(
            "warm_head",
            lambda w: w.edit("warm_head", "model.safetensors", lambda d: pickle.dumps(Loot()), sealed=True),
        ),
    ),
    Bad(
        "artifacts",
        "a pickle for a table, indexed",
        ArtifactError,
        "manifest",
        "run the phase",
        opened(
            "manifest",
            lambda w: w.edit("manifest", "manifest.parquet", lambda d: pickle.dumps(Loot()), sealed=True),
        ),
    ),
    Bad(
        "artifacts",
        "text for json, indexed",
        ArtifactError,
        "warm_head",
        "run the phase",
        opened("warm_head", lambda w: w.edit("warm_head", "history.json", lambda d: b"[", sealed=True)),
    ),
    Bad(
        "artifacts",
        "another number of classes",
        ArtifactError,
        "head.weight",
        "run the phase",
        used(two_classes),
    ),
    Bad(
        "artifacts",
        "another architecture",
        BackboneError,
        "test_resnet has 5 stages",
        "run the phase",
        used(other_backbone),
    ),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project with every artifact up to the warmed-up head; nobody writes to it."""
    folder = tmp_path_factory.mktemp("bad") / "project"
    clone = make_clone(folder)
    names = PHASES[: PHASES.index("cache_prefix") + 1]
    done = clone.phases(*names)
    assert done.returncode == 0, done.stderr[-2000:]
    return World(folder)


@pytest.fixture
def world(prepared: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the project, in which we are."""
    shutil.copytree(prepared.folder, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HEADSTART_SCRATCH", str(tmp_path / "project/.headstart"))
    monkeypatch.setenv("LOOT", str(tmp_path / "loot"))
    return World(tmp_path / "project")


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: f"{bad.area}: {bad.kind}")
def test_what_is_bad_is_refused_by_name_with_a_remedy_and_nothing_is_written(world: World, bad: Bad) -> None:
    before = world.written()
    with pytest.raises(HeadstartError) as caught:
        bad.act(world)
    message = str(caught.value)
    assert type(caught.value) is bad.error, message
    assert bad.names in message
    assert bad.remedy in message
    assert "canary" not in message
    new = {row[0] for row in world.written()} - {row[0] for row in before}
    assert all(name.endswith((".lock", "audit.html")) for name in new), new
    assert not (world.folder.parent / "loot").exists(), "a pickle was read"


@pytest.fixture(scope="module")
def judged(prepared: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Dataset, Path]:
    """What becomes of a folder with all the bad pictures in it."""
    from steps.ingest_data import ingest_data

    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder / "images", 20)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's, of the EXIF
        patch.chdir(prepared.folder)
        patch.setenv("LOOT", str(folder / "loot"))
        patch.setenv("HEADSTART_SCRATCH", str(folder / "scratch"))
        for name, make, _ in PICTURES.values():
            make(folder / "images/red" / name)
        (folder / "images/red/again").symlink_to(folder / "images/red")
        paths = {"path": str(folder / "images"), "corrections": str(ROOT / "corrections.csv")}
        manifest = ingest_data(prepared.config("ingest_data", **paths))
        cfg: ValidateData = prepared.config("validate_data", max_unreadable=1.0, duplicates="warn")
        return manifest, validate_data(manifest, cfg), folder


@pytest.mark.parametrize("kind", PICTURES)
def test_a_bad_picture_is_left_out_with_its_reason(judged: tuple[Manifest, Dataset, Path], kind: str) -> None:
    manifest, dataset, folder = judged
    name, _, reason = PICTURES[kind]
    assert f"red/{name}" in set(manifest.table["path"])
    left_out = {row["path"]: row["reason"] for finding in dataset.findings for row in finding["quarantined"]}
    kept = set(dataset.table["path"])
    if reason:
        assert reason in left_out[f"red/{name}"]
        assert f"red/{name}" not in kept
    else:
        assert f"red/{name}" in kept
    assert not (folder / "loot").exists(), "a pickle was read"


def test_a_folder_that_links_to_itself_is_walked_once(judged: tuple[Manifest, Dataset, Path]) -> None:
    assert not [path for path in judged[0].table["path"] if "again" in path]


def test_a_manifest_may_name_what_it_likes_and_reads_nothing_outside_of_its_folder(world: World) -> None:
    rows = [
        "/etc/hostname",
        "../params.yaml",
        "red/../../params.yaml",
        "red\\..\\x",
        "images/../../x",
        "~/.profile",
    ]
    text = "path,label\n" + "".join(f"{row},red\n" for row in rows)
    table = ingest(text.encode())(world).table  # type: ignore[attr-defined]
    assert sorted(table["path"]) == sorted(rows)
    assert all("leads out" in error or "no such file" in error for error in table["error"])
    assert (table["bytes"] == 0).all()


def test_what_is_odd_and_right_is_read_as_it_is_meant(world: World) -> None:
    text = "\ufeffpath,label\nred/000.png,gr\u00fcn\n".encode()
    table = ingest(text)(world).table  # type: ignore[attr-defined]
    assert list(table["label"]) == ["gr\u00fcn"]
    assert table["error"].isna().all()


def test_a_damaged_cache_is_made_again_with_the_same_bytes(world: World) -> None:
    scratch = world.folder / ".headstart"
    for path in [*scratch.glob("features/*"), *scratch.glob("training/*")]:
        data = path.read_bytes()
        path.unlink()  # the artifact is linked to the same bytes
        path.write_bytes(
            pickle.dumps(Loot()) if path.parent.name == "training" else flipped(data, len(data) - 5)
        )
    features = cache_features(
        world.load("dataset"), world.load("backbone"), stats_of(world), world.config("cache_features")
    )
    assert features.digest == world.load("features").digest
    cfg: WarmUpHead = world.config("warm_up_head")
    inputs = (features, world.load("backbone"), world.load("plan"))
    assert warm_up_head(*inputs, cfg).digest == world.load("warm_head").digest
    assert not (world.folder.parent / "loot").exists(), "a pickle was read"


def test_a_study_that_is_no_database_is_named(world: World) -> None:
    from steps.search_lr_ratio import search_lr_ratio

    inputs = world.load("prefix"), world.load("warm_head")
    cfg = world.config("search_lr_ratio", trials=1, uniform_trials=1)
    for path in world.folder.glob(".headstart/search/*"):
        shutil.rmtree(path)
    with pytest.MonkeyPatch.context() as patch:
        (world.folder / "study.db").write_bytes(pickle.dumps(Loot()))
        patch.setenv("HEADSTART_STUDY_STORAGE", f"sqlite:///{world.folder}/study.db?password=canary")
        with pytest.raises(ArtifactError, match=r"(?s)study\.db.*HEADSTART_STUDY_STORAGE") as caught:
            search_lr_ratio(*inputs, cfg)
    assert "canary" not in str(caught.value)
    assert not (world.folder.parent / "loot").exists(), "a pickle was read"


def main() -> None:
    """Print the table."""
    print("| area | bad input | answer | names | remedy |\n|---|---|---|---|---|")
    for bad in REFUSED:
        print(f"| {bad.area} | {bad.kind} | {bad.error.__name__} | `{bad.names}` | {bad.remedy} ... |")
    for kind, (_, _, reason) in PICTURES.items():
        print(f"| picture | {kind} | left out, listed | its path | {reason or 'read, EXIF ignored'} |")


if __name__ == "__main__":
    main()
