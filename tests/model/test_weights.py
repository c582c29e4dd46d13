import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision.models import Weights, WeightsEnum

from tests.checkpoints import complete_contents
from tests.learn.runs import SMALL_MODEL
from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.model.checkpoint import save_checkpoint
from wds_bone.model.model import BoneAgeModel, HeadShape, build_backbone, build_model
from wds_bone.model.weights import load_initial_weights


@pytest.fixture(scope="module")
def color_state() -> dict[str, torch.Tensor]:
    """Weights as torchvision publishes them: three channels, a thousand classes."""
    torch.manual_seed(1)
    return torchvision.models.get_model(SMALL_MODEL, num_classes=1000).state_dict()


def assert_loaded(model: BoneAgeModel, state: dict[str, torch.Tensor]):
    own = model.backbone.state_dict()
    assert torch.equal(own["conv1.0.weight"], state["conv1.0.weight"].sum(1, keepdim=True))
    others = own.keys() - {"conv1.0.weight", "fc.weight", "fc.bias"}
    assert all(torch.equal(own[name], state[name]) for name in others)


def test_color_weights_are_loaded_into_a_gray_model_that_keeps_its_own_head(
    color_state: dict[str, torch.Tensor], tmp_path: Path
):
    path = tmp_path / "weights.pth"
    torch.save(color_state, path)
    model = build_model(SMALL_MODEL)
    head = model.backbone.fc.weight.detach().clone()
    load_initial_weights(model, str(path), name=SMALL_MODEL)
    assert_loaded(model, color_state)
    assert torch.equal(model.backbone.fc.weight, head)


def test_imagenet_weights_are_taken_from_the_cache(
    color_state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The names of torchvision's files end in the first digits of their sha256."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    contents = io.BytesIO()
    torch.save(color_state, contents)
    name = f"small-{hashlib.sha256(contents.getvalue()).hexdigest()[:8]}.pth"
    cached = tmp_path / "hub" / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(contents.getvalue())
    weights = Weights(url=f"https://nowhere.example/{name}", transforms=lambda: None, meta={})
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: [SimpleNamespace(DEFAULT=weights)])
    monkeypatch.setattr(Weights, "get_state_dict", WeightsEnum.get_state_dict, raising=False)
    model = build_model(SMALL_MODEL)
    load_initial_weights(model, "imagenet", name=SMALL_MODEL)
    assert_loaded(model, color_state)


def test_cached_imagenet_weights_that_have_changed_are_refused(
    color_state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights(SMALL_MODEL).DEFAULT.url
    cached = tmp_path / "hub" / "checkpoints" / Path(url).name
    cached.parent.mkdir(parents=True)
    torch.save(color_state, cached)
    with pytest.raises(CheckpointError, match="is not the file that torchvision publishes") as refused:
        load_initial_weights(build_model(SMALL_MODEL), "imagenet", name=SMALL_MODEL)
    assert str(cached) in str(refused.value)


def test_without_a_network_the_error_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ConfigError, match="are not available") as refused:
        load_initial_weights(build_model(SMALL_MODEL), "imagenet", name=SMALL_MODEL)
    assert str(tmp_path / "hub" / "checkpoints" / "shufflenetv2_x0.5-") in refused.value.do


def test_weights_of_another_architecture_are_refused_and_change_nothing(
    color_state: dict[str, torch.Tensor], tmp_path: Path
):
    path = tmp_path / "weights.pth"
    torch.save(color_state, path)
    model = build_model("shufflenet_v2_x1_0")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match="another architecture"):
        load_initial_weights(model, str(path), name="shufflenet_v2_x1_0")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_with_a_missing_layer_are_refused(color_state: dict[str, torch.Tensor], tmp_path: Path):
    path = tmp_path / "weights.pth"
    torch.save({name: value for name, value in color_state.items() if not name.startswith("stage4.3")}, path)
    with pytest.raises(ConfigError, match=r"stage4\.3"):
        load_initial_weights(build_model(SMALL_MODEL), str(path), name=SMALL_MODEL)


def test_old_names_of_densenet_layers_are_understood(tmp_path: Path):
    with torch.device("meta"):
        names = build_backbone("densenet121", num_features=4).state_dict()
    model = build_model("densenet121")
    old = {name.replace("norm1", "norm.1").replace("conv2", "conv.2"): torch.zeros(()) for name in names}
    assert old.keys() != names.keys()
    path = tmp_path / "densenet.pth"
    own = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    torch.save({old_name: own[name] + 1 for old_name, name in zip(old, names, strict=True)}, path)
    load_initial_weights(model, str(path), name="densenet121")
    changed = model.backbone.state_dict()
    assert all(torch.equal(changed[name], own[name] + 1) for name in own)


def test_from_a_checkpoint_the_whole_averaged_model_is_loaded(tmp_path: Path):
    torch.manual_seed(5)
    trained, model = build_model(SMALL_MODEL), build_model(SMALL_MODEL)
    path = tmp_path / "best.pt"
    save_checkpoint(path, complete_contents(config={"model": SMALL_MODEL}, ema=trained.state_dict()))
    load_initial_weights(model, str(path), name=SMALL_MODEL)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="another model"):
        load_initial_weights(build_model("mnasnet0_5"), str(path), name="mnasnet0_5")


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        (HeadShape(num_bins=71), "--set gender_fusion=sum age_bins=71"),
        (HeadShape("heads"), "--set gender_fusion=heads age_bins=0"),
    ],
)
def test_a_checkpoint_with_another_head_is_refused_with_the_settings_to_use(
    shape: HeadShape, settings: str, tmp_path: Path
):
    path, config = tmp_path / "best.pt", {"gender_fusion": shape.fusion, "age_bins": shape.num_bins}
    trained = build_model(SMALL_MODEL, shape).state_dict()
    save_checkpoint(path, complete_contents(config={"model": SMALL_MODEL, **config}, ema=trained))
    with pytest.raises(ConfigError, match="is a checkpoint of a model with another head") as refused:
        load_initial_weights(build_model(SMALL_MODEL), str(path), name=SMALL_MODEL)
    assert refused.value.expected == "--set gender_fusion=sum age_bins=0"
    assert refused.value.got == settings
    assert f"use {settings}" in refused.value.do
    load_initial_weights(build_model(SMALL_MODEL, shape), str(path), name=SMALL_MODEL)


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_files_that_are_not_weights_are_refused(content: bytes | None, tmp_path: Path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content) if content is not None else torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        load_initial_weights(build_model(SMALL_MODEL), str(path), name=SMALL_MODEL)
    with pytest.raises(CheckpointError, match=r"none\.pth"):
        load_initial_weights(build_model(SMALL_MODEL), str(tmp_path / "none.pth"), name=SMALL_MODEL)
