"""The commands and their help texts, in the order in which the commands are used."""

from wds_bone.command_line import Command

MAKE_SHARDS = Command(
    "wds-bone make-shards",
    "write films and labels as shards",
    "Write labeled hand radiographs as tar shards; without --labels, draw synthetic ones. "
    "Run the same command again to finish an interrupted run.",
    "wds-bone make-shards --labels labels.csv --images films",
)
VERIFY = Command(
    "wds-bone verify",
    "check that shards are undamaged",
    "Check shards for damage: their structure, counts, checksums, indexes and label statistics.",
    "wds-bone verify shards --deep",
)
INDEX = Command(
    "wds-bone index",
    "index shards from other tools",
    "Write the indexes and the manifest for shards that another tool wrote.",
    "wds-bone index other-shards",
)
TRAIN = Command(
    "wds-bone train",
    "train a model on shards",
    "Train a bone age model on shards. Run the same command again to resume a stopped run.",
    "wds-bone train --train shards --out runs/first",
)
EVALUATE = Command(
    "wds-bone evaluate",
    "measure the errors of a model",
    "Predict every sample of a split once, and write the predictions, their errors and figures.",
    "wds-bone evaluate --checkpoint best.pt --shards shards --split val --out report",
)
PREDICT = Command(
    "wds-bone predict",
    "predict bone ages from films",
    "Predict bone ages in months from hand radiographs, and print them as CSV. "
    "For research and teaching; not a medical device, not for diagnosis.",
    "wds-bone predict --checkpoint best.pt --gender F film.png",
)
COMMANDS = (MAKE_SHARDS, VERIFY, INDEX, TRAIN, EVALUATE, PREDICT)
