"""The commands and their help texts, in the order in which the commands are used."""

from pathlib import Path

from wds_bone.command_line import Command

MAKE_SHARDS = Command(
    "wds-bone make-shards",
    "write films and labels as shards",
    "Write labeled hand radiographs as tar shards; without --labels, draw synthetic ones. "
    "Run the same command again to finish an interrupted run.",
    "wds-bone make-shards --labels labels.csv --images films",
    after_signal="run the same command again to continue",
)
VERIFY = Command(
    "wds-bone verify",
    "check that shards are undamaged",
    "Check shards for damage: their structure, counts, checksums, indexes and label statistics.",
    "wds-bone verify shards --deep",
    after_signal="not everything was checked; run the same command again",
    prints_result=True,
)
INDEX = Command(
    "wds-bone index",
    "index shards from other tools",
    "Write the indexes and the manifest for shards that another tool wrote.",
    "wds-bone index other-shards",
    after_signal="not all shards were indexed; run the same command again",
    prints_result=True,
)
TRAIN = Command(
    "wds-bone train",
    "train a model on shards",
    "Train a bone age model on shards. Run the same command again to resume a stopped run.",
    "wds-bone train --train shards --out runs/first",
    presets=Path(__file__).parent / "presets",
    after_signal="run the same command again to continue",
)
EVALUATE = Command(
    "wds-bone evaluate",
    "measure the errors of a model",
    "Predict every labeled sample once, from shards or straight from films, or pool the folds of a cross-validation; "
    "write the predictions, their errors and figures.",
    "wds-bone evaluate --checkpoint best.pt --shards shards --split val --out report",
    after_signal="the results are not complete; run the same command again",
)
CALIBRATE = Command(
    "wds-bone calibrate",
    "add intervals to a checkpoint",
    "Write a copy of a checkpoint whose predictions have intervals that contain the true age with a chosen "
    "probability. They are fitted on labeled films that the model was not trained on.",
    "wds-bone calibrate --checkpoint best.pt --labels own.csv --images own --out own.pt",
    after_signal="nothing was written; run the same command again",
)
PREDICT = Command(
    "wds-bone predict",
    "predict bone ages from films",
    "Predict bone ages from hand radiographs: films of children of one gender, or films with a table of genders. "
    "For research and teaching; not a medical device, not for diagnosis.",
    "wds-bone predict --checkpoint best.pt --table ward.csv --images ward --out ages.csv",
    after_signal="films without a row were not predicted, and a file --out was not written; run the command again",
    prints_result=True,
)
COMMANDS = (MAKE_SHARDS, VERIFY, INDEX, TRAIN, EVALUATE, CALIBRATE, PREDICT)
