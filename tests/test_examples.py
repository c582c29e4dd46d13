"""The examples run, and the trainers of other libraries continue with exactly the next sample."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sample_sets import write_set

EXAMPLES = Path(__file__).parent.parent / "examples"
NUM_SAMPLES = 300
pytestmark = pytest.mark.slow
needs_lightning = pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="the extra `lightning` is not installed"
)
needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="the extra `lightning` is not installed"
)
needs_notebooks = pytest.mark.skipif(
    importlib.util.find_spec("nbconvert") is None or importlib.util.find_spec("ipykernel") is None,
    reason="nbconvert and ipykernel are not installed",
)


def run(*command: object, expected: int = 0, **settings: Any) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(EXAMPLES.parent),
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        **settings,
    )
    assert done.returncode == expected, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("examples"), size=32, train=[200, NUM_SAMPLES - 200], val=[9])


def test_every_example_is_short() -> None:
    assert all(len(path.read_text().splitlines()) <= 40 for path in EXAMPLES.glob("*.py"))


def test_a_plain_loop_trains_and_continues_where_it_was_saved(shards: Path, tmp_path: Path) -> None:
    command = [EXAMPLES / "pytorch_loop.py", shards, tmp_path / "loop.pt"]
    source = command[0].read_text()
    assert source.count(", 100\n") == 1
    stopped = run("-c", source.replace(", 100\n", ", 40\n"), *command[1:])
    whole = stopped.splitlines() + run(*command).splitlines()
    assert [line.split(":")[0] for line in whole] == [
        f"step {step}, epoch {step * 32 / NUM_SAMPLES:.1f}" for step in range(20, 101, 20)
    ]


# Runs the example, records the keys of every step, and kills the process in the middle of an epoch.
RECORDED = """
import json, os, runpy, signal, sys
import lightning

example, shards, folder, kill_after = sys.argv[1:]

def record(module, batch, index):
    with open(folder + ".jsonl", "a") as file:
        print(json.dumps([module.global_step, module.current_epoch, index, batch.key]), file=file)
    if module.global_step == int(kill_after):
        os.kill(os.getpid(), signal.SIGKILL)

lightning.LightningModule.on_train_batch_start = record
sys.argv = [example, shards, folder]
runpy.run_path(example, run_name="__main__")
"""


@needs_lightning
@pytest.mark.fault("F4")
def test_lightning_killed_inside_an_epoch_continues_with_exactly_the_samples_of_the_uninterrupted_run(
    shards: Path, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    command = ["-c", RECORDED, EXAMPLES / "lightning_training.py", shards]
    run(*command, whole, -1)
    run(*command, resumed, 8, expected=-signal.SIGKILL)  # epochs have 5 steps; the last checkpoint is after step 6
    run(*command, resumed, -1)
    steps = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    again = [json.loads(line) for line in (tmp_path / "resumed.jsonl").read_text().splitlines()]
    assert [step for step, *_ in steps] == list(range(15))
    expected = sorted(f"hand-{number}" for number in range(NUM_SAMPLES))
    assert [keys_of(steps, epoch) for epoch in range(3)] == [expected] * 3
    assert again == steps[:9] + steps[6:]
    assert weights_of(resumed) == weights_of(whole)


def keys_of(steps: list[Any], epoch: int) -> list[str]:
    return sorted(key for _, of_epoch, _, keys in steps for key in keys if key and of_epoch == epoch)


def weights_of(folder: Path) -> dict[str, Any]:
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 15
    return {name: tensor.tolist() for name, tensor in saved["state_dict"].items()}


# Runs the example, and records the keys that each rank passes to the network.
RECORDED_BY_ACCELERATE = """
import os, runpy, sys
import torch

def record(module, inputs):
    if type(module).__name__ == "SmallNetwork":
        with open(sys.argv[2] + "." + os.environ["RANK"], "a") as file:
            print(*inputs[0].key, file=file)

sys.argv = sys.argv[1:]
torch.nn.modules.module.register_module_forward_pre_hook(record)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@needs_accelerate
def test_processes_of_accelerate_share_each_epoch_and_continue_after_the_saved_one(
    shards: Path, tmp_path: Path
) -> None:
    script = tmp_path / "recorded.py"
    script.write_text(RECORDED_BY_ACCELERATE)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, script]
    launch = [*launcher, EXAMPLES / "accelerate_training.py", shards, tmp_path / "state"]
    run(*launch)
    steps = [line.split() for rank in range(2) for line in (tmp_path / f"state.{rank}").read_text().splitlines()]
    assert Counter(key for keys in steps for key in keys) == {f"hand-{number}": 3 for number in range(NUM_SAMPLES)}
    run(*launch)
    assert [len((tmp_path / f"state.{rank}").read_text().splitlines()) for rank in range(2)] == [15, 15]


@needs_notebooks
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook, options = EXAMPLES / "quickstart.ipynb", ["--to", "notebook", "--execute", "--output-dir", tmp_path]
    run("-m", "nbconvert", *options, notebook, cwd=tmp_path)
    cells = json.loads((tmp_path / notebook.name).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    assert "error" not in {output["output_type"] for output in outputs}
