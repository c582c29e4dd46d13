import pytest

from wds_bone.config import parse_config
from wds_bone.errors import ConfigError
from wds_bone.learn.settings import TrainConfig, resolve_config

FLAGS = [
    "--train",
    "--val",
    "--out",
    "--model",
    "--init-weights",
    "--image-size",
    "--epochs",
    "--max-steps",
    "--batch-size",
    "--lr",
    "--weight-decay",
    "--ema",
    "--seed",
    "--threads",
    "--shuffle-buffer",
    "--device",
    "--precision",
    "--compile",
    "--resume",
    "--log-every",
]


def parse(*argv: str) -> TrainConfig:
    return parse_config(TrainConfig, argv, prog="train", description="")


def test_the_flags_are_the_documented_ones_and_no_more(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse("--help")
    words = capsys.readouterr().out.replace(",", " ").replace("[", " ").split()
    shown = {word.strip("[],)") for word in words if word.startswith("--")} - {"--help", "--no-compile"}
    assert shown == set(FLAGS)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "0"),
        ("--batch-size", "-3"),
        ("--max-steps", "0"),
        ("--image-size", "0"),
        ("--threads", "0"),
        ("--log-every", "0"),
        ("--lr", "-0.1"),
        ("--lr", "nan"),
        ("--lr", "inf"),
        ("--weight-decay", "inf"),
        ("--weight-decay", "-1"),
        ("--ema", "1.0"),
        ("--seed", "-1"),
        ("--seed", str(1 << 31)),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(flag: str, value: str):
    with pytest.raises(ConfigError, match=flag):
        parse(flag, value)


def test_a_resolved_config_says_what_the_run_does():
    config = resolve_config(parse("--device", "cpu"))
    assert (config.device, config.model, config.threads) == ("cpu", "resnet18", 1)
    assert config.precision in ("fp32", "bf16")
    assert resolve_config(config) == config
