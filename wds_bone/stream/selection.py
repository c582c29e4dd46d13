"""Find the shards that the user names, and build the table of their samples.

In: brace patterns, globs, lists, a folder or a manifest with a split.
Out: a `Selection`.
Invariant: shards with a manifest are described by their verified indexes, and shards without one are scanned once; the
same shards give the same table and the same order digest either way. A shard without samples counts as empty.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ConfigError, ShardError
from wds_bone.labels.read import check_ages_are_in_months
from wds_bone.objects.clients import shared_transfer
from wds_bone.objects.protocol import Transfer
from wds_bone.remote.opening import CacheSettings
from wds_bone.remote.shard import RemoteShard
from wds_bone.shards.image_size import mixed_sizes_error
from wds_bone.shards.located import LocatedShard, read_shards, with_groups
from wds_bone.shards.manifest import REBUILD, ImageFormat
from wds_bone.shards.samples import SampleTable, join_tables
from wds_bone.shards.sidecars import duplicate_keys
from wds_bone.storage.location import Location, identity
from wds_bone.stream.locate import find_shards
from wds_bone.stream.order import shard_of

Keep = Callable[[SampleTable], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Selection:
    """The shards of one stream and the table of their samples, numbered in the order of the shards.

    Attributes:
        paths: the shards, in order.
        first_sample: int64 (shards + 1,), the number of the first sample of each shard, and the total.
        table: the rows of all shards, one after another.
        stored: what `open_storage` needs to know of each shard: its path, or the description of one in object storage.
        image: the format of the images that the stream delivers.
        order_digest: sha256 of the shards' names and contents, and of the samples that are kept.
        transfer: what was moved over the network to select them.
    """

    paths: tuple[Location, ...]
    first_sample: NDArray[np.int64]
    table: SampleTable
    stored: tuple[Path | RemoteShard, ...]
    image: ImageFormat
    order_digest: str
    transfer: Transfer = field(default_factory=Transfer)

    @property
    def num_samples(self) -> int:
        """The number of samples in all shards."""
        return len(self.table)

    @property
    def ages_months(self) -> NDArray[np.float32]:
        """float32 (num_samples,), the labels."""
        ages: NDArray[np.float32] = self.table["age_months"].copy()
        return ages

    @property
    def genders(self) -> NDArray[np.uint8]:
        """uint8 (num_samples,), 1 male, 0 female."""
        genders: NDArray[np.uint8] = (self.table["gender"] == b"M").astype(np.uint8)
        return genders

    def keys(self, samples: NDArray[np.int64] | slice = slice(None)) -> list[str]:
        """Return the keys of the samples with these numbers, or of all."""
        return [key.decode() for key in self.table["key"][samples].tolist()]

    def key_of(self, sample: int) -> str:
        """Return the key of the sample with this number."""
        key: bytes = self.table["key"][sample]
        return key.decode()

    def where(self, sample: int) -> str:
        """Return the shard and the key of a sample, for error messages."""
        shard = shard_of(np.array([sample]), self.first_sample).item()
        return f"{self.paths[shard]}: sample '{self.key_of(sample)}'"


def select_shards(
    shards: str | Path | Sequence[str | Path],
    *,
    split: str | None = None,
    keep: Keep | None = None,
    cache: CacheSettings | None = None,
) -> Selection:
    """Return the selection that `shards` names.

    Args:
        shards: a tar, a folder, a `manifest.json`, a brace pattern, a glob, or a list of these. A path that exists
            means itself, whatever characters are in its name, and a `Path` object is never a pattern.
        split: the split of a folder or manifest; may be omitted if there is only one.
        keep: maps the table of all samples to a mask, bool (n,), of those to select; None selects all. The table also
            has the field `group`, int64, if the patients of any shard are known.
        cache: where shards in object storage that must be scanned are kept; None fetches them for the scan alone.

    Raises:
        ConfigError: if no shards are named, the cache cannot be used, no sample is kept, or a name is not a local path.
        ShardError: if a shard or index is missing, incomplete or damaged.
    """
    before = shared_transfer()
    names = [shards] if isinstance(shards, str | Path) else list(shards)
    located = read_shards([path for name in names or [""] for path in find_shards(name, split)], cache)
    selection = _select_all(located, names)
    if keep is not None:
        selection = _filter(selection, keep(with_groups(selection.table, located)))
    return replace(selection, transfer=shared_transfer() - before)


def _select_all(located: Sequence[LocatedShard], names: Sequence[str | Path]) -> Selection:
    _check_distinct(located)
    _check_keys({str(shard.path): shard.table for shard in located})
    _check_unit(located)
    counts = [len(shard.table) for shard in located]
    if not sum(counts):
        problem = f"{', '.join(map(str, names))}: the shards contain no samples"
        raise ShardError(problem, expected="at least one", got=_ignored_text(located), do=REBUILD)
    image = _common_image([shard.image for shard in located if shard.image is not None])
    return Selection(
        paths=tuple(shard.path for shard in located),
        first_sample=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        table=join_tables([shard.table for shard in located]),
        stored=tuple(shard.stored for shard in located),
        image=image,
        order_digest=_order_digest(located),
    )


def _filter(selection: Selection, kept: NDArray[np.bool_]) -> Selection:
    """Return the samples of a selection for which `kept` is true, with a new order digest."""
    if not kept.any():
        raise ConfigError("no sample is selected", expected="at least one", got="none", do="choose fewer folds")
    num_before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    digest = hashlib.sha256(selection.order_digest.encode() + np.packbits(kept).tobytes())
    return replace(
        selection,
        first_sample=num_before[selection.first_sample],
        table=selection.table[kept],
        order_digest=digest.hexdigest(),
    )


def _check_keys(tables: dict[str, SampleTable]) -> None:
    """Refuse a key that occurs in two shards."""
    if repeated := duplicate_keys(tables):
        key, first, second = repeated[0]
        raise ShardError(
            f"{second}: sample '{key}' is also in {first}",
            expected="each key once",
            got=f"{len(repeated)} repeated keys",
            do="leave one of the shards out, or rewrite them with different keys",
        )


def _ignored_text(located: Sequence[LocatedShard]) -> str:
    num_ignored = sum(shard.num_ignored for shard in located)
    return f"none, and {num_ignored:,} members that are neither image nor label" if num_ignored else "none"


def _common_image(images: Sequence[ImageFormat]) -> ImageFormat:
    """Return the format of all shards, which must agree except in encoding and quality."""
    sizes = {(image.height, image.width) for image in images}
    if len(sizes) != 1:
        raise mixed_sizes_error("the shards", sizes)
    options = {(image.fit, image.stretch) for image in images}
    if len(options) != 1:
        shown = " and ".join(sorted(f"fit {fit}, stretch {stretch}" for fit, stretch in options))
        do = "rewrite them with the same options, or use only shards made with the same options"
        raise ShardError("the shards were made with different options", expected="the same", got=shown, do=do)
    same_encoding = len({image.encoding for image in images}) == 1
    return images[0] if same_encoding else replace(images[0], encoding=None)


def _check_unit(located: Sequence[LocatedShard]) -> None:
    """Refuse ages that look like years, in scanned shards whose labels do not state the unit."""
    unstated = [shard for shard in located if not shard.states_age_unit]
    if unstated:
        check_ages_are_in_months(
            [age for shard in unstated for age in shard.table["age_months"].tolist()], str(unstated[0].path)
        )


def _check_distinct(located: Sequence[LocatedShard]) -> None:
    """Refuse a shard that is named twice."""
    seen: set[str] = set()
    for name in (identity(shard.path) for shard in located):
        if name in seen:
            raise ConfigError(f"{name}: is named twice", expected="each shard once", got="twice", do="name it once")
        seen.add(name)


def _order_digest(located: Sequence[LocatedShard]) -> str:
    lines = "".join(f"{shard.path.name} {shard.sha256}\n" for shard in located)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()  # any name that a file can have
