import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset

from tests.sample_sets import image_of, write_set, write_shard
from wds_bone.errors import ConfigError, LabelError, ShardError
from wds_bone.index import index_shards
from wds_bone.objects import retries
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest, write_manifest
from wds_bone.stream.selection import select_shards
from wds_bone.verify import main as verify


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", train=[4, 3, 2], val=[2])


def names_of(shards: object, split: str | None = None) -> list[str]:
    return [path.name for path in select_shards(shards, split=split).paths]  # type: ignore[arg-type]


def test_folder_manifest_braces_glob_and_list_name_the_same_shards(shards: Path) -> None:
    expected = ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    assert names_of(shards, "train") == names_of(shards / MANIFEST_NAME, "train") == expected
    assert names_of(f"{shards}/train-{{000000..000002}}.tar") == names_of(f"{shards}/train-*.tar") == expected
    assert names_of([shards / name for name in expected]) == names_of(f"file://{shards}/train-*.tar") == expected


@pytest.mark.fault("D7")
def test_scanning_shards_without_an_index_gives_the_same_table_and_order(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for path in shards.glob("train-*.tar"):
        (tmp_path / "bare" / path.name).write_bytes(path.read_bytes())
    indexed, scanned = select_shards(shards, split="train"), select_shards(tmp_path / "bare", split="train")
    assert indexed.order_digest == scanned.order_digest
    assert (indexed.table == scanned.table).all()
    assert (scanned.image.encoding, scanned.image.height, scanned.image.width) == ("png", 16, 16)


def test_the_order_digest_depends_on_names_and_contents_but_not_on_the_folder(shards: Path, tmp_path: Path) -> None:
    moved = shards.rename(tmp_path / "moved")
    digest = select_shards(moved, split="train").order_digest
    assert digest == select_shards(write_set(tmp_path / "again", train=[4, 3, 2]), split="train").order_digest
    assert digest != select_shards(write_set(tmp_path / "other", train=[4, 3, 3]), split="train").order_digest


def test_a_split_must_be_named_unless_it_is_the_only_one(shards: Path, tmp_path: Path) -> None:
    assert names_of(write_set(tmp_path / "one", val=[2])) == ["val-000000.tar"]
    with pytest.raises(ConfigError, match=r"(?s)has several splits.*one of train, val"):
        select_shards(shards)
    with pytest.raises(ConfigError, match=r"(?s)has no split 'test'.*one of train, val"):
        select_shards(shards, split="test")


@pytest.mark.fault("I1")
@pytest.mark.parametrize(
    "name",
    ["pipe:touch canary", "ftp://host/a.tar", "hdfs://b/a.tar", "a.tar::b.tar", "ftp://b/{0..3}.tar", "PIPE://x"],
)
def test_only_known_schemes_are_accepted_and_nothing_is_executed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOPEN_REWRITE", "a.tar=pipe:touch canary")
    with pytest.raises(ConfigError, match="cannot be read"):
        select_shards(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["missing-*.tar", "empty", [], ["set/train-*.tar", "missing-*.tar"]])
def test_a_name_without_any_shards_is_an_error(tmp_path: Path, name: object) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no shards in"):
        select_shards(name if isinstance(name, list) else tmp_path / str(name))


def test_a_shard_named_twice_is_refused(shards: Path) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        select_shards([shards / "train-000000.tar", f"{shards}/../set/train-*.tar"])


def test_a_shard_that_is_not_in_the_manifest_next_to_it_is_refused(shards: Path) -> None:
    write_shard(shards / "stale.tar", range(2))
    with pytest.raises(ShardError, match=r"stale.tar: is not listed in the manifest next to it"):
        select_shards(shards / "stale.tar")


def test_a_range_of_a_billion_shards_is_refused_immediately(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too many shards"):
        select_shards(str(tmp_path / "train-{000000000..999999999}.tar"))


def test_the_error_for_mixed_image_sizes_suggests_letterboxing(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", range(2), size=8)
    write_shard(tmp_path / "train-1.tar", range(2, 4), size=16)
    with pytest.raises(ShardError, match=r"(?s)the images have 2 different sizes.*8 x 8, 16 x 16.*--letterbox"):
        select_shards(tmp_path)


@pytest.mark.fault("E4")
def test_shards_without_any_samples_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", range(0))
    with pytest.raises(ShardError, match=r"the shards contain no samples"):
        select_shards(tmp_path)


def test_a_shard_without_samples_among_others_counts_as_empty_with_and_without_a_manifest(tmp_path: Path) -> None:
    for number, samples in enumerate([range(3), range(0), range(3, 5)]):
        write_shard(tmp_path / f"train-{number}.tar", samples)
    scanned = select_shards(tmp_path)
    index_shards([str(tmp_path)])
    indexed = select_shards(tmp_path)
    assert scanned.first_sample.tolist() == indexed.first_sample.tolist() == [0, 3, 3, 5]
    assert scanned.order_digest == indexed.order_digest
    assert verify([str(tmp_path)]) == 0


def test_a_split_of_a_plain_tar_is_refused(shards: Path) -> None:
    with pytest.raises(ConfigError, match="only a folder or a manifest has splits"):
        select_shards(shards / "train-000000.tar", split="train")


@pytest.mark.fault("D7")
def test_a_manifest_edited_by_hand_is_refused(shards: Path) -> None:
    manifest = json.loads((shards / MANIFEST_NAME).read_text())
    manifest["splits"]["train"]["num_samples"] = 8
    (shards / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    with pytest.raises(ShardError, match="changed since it was written"):
        select_shards(shards, split="train")


@pytest.mark.fault("D4")
def test_a_key_in_two_scanned_shards_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", range(3))
    write_shard(tmp_path / "train-1.tar", range(2, 5))
    with pytest.raises(ShardError, match=r"train-1.tar: sample .hand-2. is also in .*train-0.tar"):
        select_shards(tmp_path)


@pytest.mark.fault("D4")
def test_a_key_in_two_sets_of_a_list_is_refused(tmp_path: Path) -> None:
    sets = [write_set(tmp_path / name, train=[3]) for name in ("one", "two")]
    with pytest.raises(ShardError, match="sample 'hand-0' is also in"):
        select_shards(sets, split="train")


def test_without_a_manifest_the_names_of_the_tars_define_the_splits(shards: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in shards.glob("*.tar"):
        (bare / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match=r"(?s)has several splits.*one of train, val"):
        select_shards(bare)
    assert names_of(bare, "val") == ["val-000000.tar"]


@pytest.mark.fault("I2")
def test_secrets_in_a_url_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(ShardError, match=r"127\.0\.0\.1:9/") as caught:  # nothing listens there
        select_shards("https://user:S3cret@127.0.0.1:9/a.tar?signature=S3cret")
    assert "S3cret" not in str(caught.value)


def test_sets_made_with_different_options_are_refused(tmp_path: Path) -> None:
    one, two = (write_set(tmp_path / name, first=first, train=[3]) for name, first in (("one", 0), ("two", 3)))
    manifest = read_manifest(two / MANIFEST_NAME)
    write_manifest(two, replace(manifest, image=replace(manifest.image, stretch=(1.0, 99.0))))
    with pytest.raises(ShardError, match="made with different options"):
        select_shards([one, two], split="train")


def test_scanned_ages_that_look_like_years_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "train-000000.tar").open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
        for number in range(20):
            image = encode_image(image_of(number, 16), "png")
            tar.write({"__key__": f"hand-{number}", "json": {"age": 3 + number % 14, "gender": "F"}, "png": image})
    with pytest.raises(LabelError, match="look like years"):
        select_shards(tmp_path)


NOBODY = 65534
AWKWARD = [
    "train[1].tar",
    "a{0..3}.tar",
    "a*.tar",
    "b\\{x.tar",
    "c::d.tar",
    "%41.tar",
    "~.tar",
    "pipe:x.tar",
    "a?b.tar",
]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_shard_with_any_name_is_read_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, other in enumerate(["train1.tar", "a0.tar", "ab.tar", "A.tar", "axb.tar", name]):
        write_shard(tmp_path / other, range(number, number + 1))
    for shards in (name, Path(name), tmp_path / name, f"file://{tmp_path}/{name}", [name], [tmp_path / name]):
        assert select_shards(shards).keys() == ["hand-5"], shards  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["set[1]", "{a,b}", "*", "x::y", "a%20b"])
def test_a_folder_and_a_manifest_with_any_name_are_read_and_patterns_work_inside(tmp_path: Path, name: str) -> None:
    folder = write_set(tmp_path / name, train=[2, 1])
    write_set(tmp_path / "set1", train=[3])
    write_set(tmp_path / "a", train=[4])
    for shards in (
        folder,
        str(folder),
        folder / MANIFEST_NAME,
        f"{folder}/train-*.tar",
        f"{folder}/train-{{000000..000001}}.tar",
    ):
        assert select_shards(shards).num_samples == 3


def test_a_path_object_is_never_a_pattern(tmp_path: Path) -> None:
    write_shard(tmp_path / "train1.tar", range(2))
    assert select_shards(str(tmp_path / "train[1].tar")).num_samples == 2
    with pytest.raises(ConfigError, match=r"(?s)no shards in .*train\[1\].*a Path object is never a pattern.*string"):
        select_shards(tmp_path / "train[1].tar")


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".zip"])
def test_a_folder_of_compressed_tars_says_what_is_in_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"train-0{suffix}").touch()
    with pytest.raises(ConfigError, match=rf"(?s)no shards in.*1 \{suffix}.*decompress the \{suffix} files"):
        select_shards(tmp_path)


def test_a_compressed_shard_among_others_is_not_left_out_without_a_word(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", range(2))
    for harmless in ("train-0.tar.gz", "films.zip", "backup.tar.gz"):
        (tmp_path / harmless).touch()
    assert select_shards(tmp_path).num_samples == 2
    (tmp_path / "train-1.tar.gz").touch()
    with pytest.raises(ShardError, match=r"(?s)a compressed shard would be left out.*train-1.tar.gz.*decompress it"):
        select_shards(tmp_path)
    with pytest.raises(ShardError, match="a compressed shard would be left out"):
        index_shards([str(tmp_path)])


def test_a_manifest_that_is_a_link_to_nowhere_is_not_taken_for_none(shards: Path) -> None:
    (shards / MANIFEST_NAME).rename(shards / "moved.json")
    (shards / MANIFEST_NAME).symlink_to("gone")
    with pytest.raises(ShardError, match=r"manifest.json: cannot be read: No such file"):
        select_shards(shards, split="train")


@pytest.mark.fault("C1")
def test_a_shard_that_is_missing_from_a_range_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", range(2))
    with pytest.raises(ShardError, match=r"train-1.tar: cannot be read: No such file(?s:.*)do:"):
        select_shards(f"{tmp_path}/train-{{0..1}}.tar")
    with pytest.raises(ConfigError, match=r"no shards in .*\n.*\n.*as a pattern, 'val-\*.tar' matches nothing in"):
        select_shards(f"{tmp_path}/{{train,val}}-*.tar")


def test_the_folder_of_an_unfinished_set_is_refused_by_itself(tmp_path: Path) -> None:
    staging = tmp_path / ".building"
    staging.mkdir()
    write_shard(staging / "train-000000.tar", range(2))
    for shards in (tmp_path, staging, staging / "train-000000.tar"):
        with pytest.raises(ShardError, match=r"not finished(?s:.*)run the same `wds-bone make-shards` command again"):
            select_shards(shards)


@pytest.mark.fault("C1")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without permissions")
def test_shards_that_may_not_be_read_are_refused_at_opening(shards: Path) -> None:
    for path in (shards, *shards.parents):
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
    for path in (shards / "train-000001.tar", shards / "train-000002.index.npy", shards / MANIFEST_NAME, shards):
        mode = path.stat().st_mode
        path.chmod(0)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(ShardError, match=rf"{path.name}: cannot be read: Permission denied(?s:.*)do:"):
                select_shards(shards, split="train")
        finally:
            os.seteuid(0)
            path.chmod(mode)
