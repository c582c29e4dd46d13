"""Nothing in a shard, beside it, in its name or in the environment executes."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sample_sets import write_set
from tests.shards.tars import sample, tar_of
from wds_bone.errors import ShardError
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.shards.sidecars import read_sidecar

READ_UNDER_AUDIT = """
import sys
from wds_bone import BoneAgeStream
from wds_bone.index import main as index
from wds_bone.verify import main as verify

FORBIDDEN = ["pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"]
FORBIDDEN += ["socket.connect", "socket.getaddrinfo", "os.putenv"]

def hook(event, args):
    if event in FORBIDDEN:
        print("executed", event, args, flush=True)
    if event == "open" and "canary" in str(args[0]):
        print("opened", args[0], flush=True)

sys.addaudithook(hook)
folder = sys.argv[1]
with BoneAgeStream(folder, batch_size=2, threads=1) as stream:
    print([key for batch in stream for key in batch.key if key])
print(index([folder]), verify([folder, "--deep"]))
for name in ("pipe:touch canary", f"{folder}/a.tar::pipe:touch canary", "ftp://localhost/x.tar"):
    try:
        BoneAgeStream(name)
    except ValueError as error:
        print("refused")
"""
PICKLE = b"cposix\nsystem\n(S'touch canary'\ntR."


@pytest.mark.slow
@pytest.mark.fault("I1")
def test_nothing_in_or_around_a_shard_is_executed(tmp_path: Path) -> None:
    others = [(f"hand-1.{kind}", PICKLE) for kind in ("pth", "pkl", "pickle", "pyd", "yaml", "py", "pyc", "so")]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train-0.tar").write_bytes(tar_of([*sample(), *others]))
    for name in (".curlrc", "sitecustomize.pyc", ".wdsrc"):
        (tmp_path / name).write_bytes(b"output = canary\n")
    environment = {
        "HOME": str(tmp_path),
        "GOPEN_VERBOSE": "1",
        "GOPEN_REWRITE": f"{tmp_path}=pipe:touch canary",
        "WDS_REWRITE": f"{tmp_path}=pipe:touch canary",
        "WDS_CACHE": str(tmp_path / "canary"),
        "PYTHONPATH": ":".join(path for path in sys.path if path),
    }
    command = [sys.executable, "-c", READ_UNDER_AUDIT, str(tmp_path / "set")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path, env=environment)
    assert found.returncode == 0, found.stderr
    assert "['hand-1']" in found.stdout
    assert "0 0\n" in found.stdout
    assert found.stdout.count("refused") == 3
    assert "executed" not in found.stdout
    assert "opened" not in found.stdout
    assert not list(tmp_path.rglob("*canary*"))


@pytest.mark.fault("I1", "D7")
def test_a_pickle_in_place_of_an_index_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", train=[2])
    (folder / "train-000000.index.npy").write_bytes(PICKLE)
    entry = read_manifest(folder / MANIFEST_NAME).shard_entries["train-000000.tar"]
    with pytest.raises(ShardError, match="not a sample table"):
        read_sidecar(folder, replace(entry, index_sha256=hashlib.sha256(PICKLE).hexdigest()))
