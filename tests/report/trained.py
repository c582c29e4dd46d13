"""Films, shards made of them, and a checkpoint of an untrained model that distinguishes films and genders."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.checkpoints import complete_contents
from tests.sample_sets import age_of
from wds_bone.make_shards import main as make_shards
from wds_bone.model.checkpoint import save_checkpoint
from wds_bone.model.model import BoneAgeModel, build_model
from wds_bone.model.preprocess import plan_preprocessing
from wds_bone.shards.manifest import ImageFormat, read_manifest

MODEL = "squeezenet1_1"
SIZE = 32
LETTERBOXED = ImageFormat("png", SIZE, SIZE, None, "letterbox")


def write_films(folder: Path, num_films: int) -> list[Path]:
    """Write films of several shapes and `labels.csv` into `folder`; films with odd numbers are of boys."""
    folder.mkdir(parents=True)
    paths, rows = [], ["id,boneage,male"]
    for number in range(num_films):
        generator = np.random.default_rng(number)
        coarse = Image.fromarray(generator.integers(0, 256, (6, 5), np.uint8))
        paths.append(folder / f"film-{number}.png")
        coarse.resize((30 + number, 50 - number), Image.Resampling.BICUBIC).save(paths[-1])
        rows.append(f"film-{number},{age_of(number)},{bool(number % 2)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return paths


def shard_films(films: Path, out: Path, *, encoding: str = "png") -> Path:
    """Make shards of the films in a folder and return the manifest."""
    inputs = ["--labels", str(films / "labels.csv"), "--images", str(films), "--split", "val", "--out", str(out)]
    options = ["--size", str(SIZE), "--encoding", encoding, "--samples-per-shard", "5", "--workers", "1"]
    assert make_shards([*inputs, *options]) == 0
    return out / "manifest.json"


def write_checkpoint(
    path: Path,
    image_format: ImageFormat,
    *,
    model: BoneAgeModel | None = None,
    name: str = MODEL,
) -> Path:
    """Write a checkpoint of `model`, by default a new one of the given name, trained on nothing; return its path."""
    contents = complete_contents(
        trained_on={"salt": "00", "hashes": torch.empty(0, dtype=torch.int64), "inherited": []},
        config={"model": name},
        ema=(model or (distinguishing_model() if name == MODEL else build_model(name))).state_dict(),
        preprocessing=plan_preprocessing(image_format, None).to_json(),
    )
    save_checkpoint(path, contents)
    return path


def distinguishing_model() -> BoneAgeModel:
    """Return a model whose ages differ by tens of months between films, and are higher for boys than for girls."""
    torch.manual_seed(0)
    model = build_model(MODEL)
    with torch.no_grad():
        model.head[1].weight.abs_()
        model.gender.weight[0] = 0.0
        model.gender.weight[1] = 0.02
    return model


def format_of(manifest: Path) -> ImageFormat:
    """Return the image format of a set."""
    return read_manifest(manifest).image
