"""What a mistyped or differently named word most likely means."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["did_you_mean", "meant"]

_SAME: Mapping[str, str] = MappingProxyType(
    {
        # Settings.
        "lr": "learning_rate",
        "epochs": "num_epochs",
        "batch": "batch_size",
        "bs": "batch_size",
        "wd": "weight_decay",
        "clip": "gradient_clip",
        "grad_clip": "gradient_clip",
        "drop_path": "drop_path_probability",
        "dropout": "drop_path_probability",
        "cutout": "cutout_length",
        "flip": "horizontal_flip",
        "padding": "crop_padding",
        "mixup": "mixup_alpha",
        "amp": "precision",
        "aux": "auxiliary auxiliary_weight",
        "width": "channels",
        "init_channels": "channels",
        "depth": "layers",
        "num_cells": "layers",
        "num_layers": "layers",
        "dataset": "images",
        "data": "images",
        "data_dir": "root images_root",
        "gpu": "cuda compute device",
        "gpus": "gpus_per_run",
        "num_gpus": "gpus_per_run",
        "cpus": "num_cpus",
        "workers": "num_cpus max_in_flight",
        "num_workers": "num_cpus max_in_flight",
        "timeout": "time_limit",
        "retries": "max_attempts retry",
        "seed": "seeds",
        "genotypes": "num_genotypes",
        "architectures": "num_genotypes",
        "num_architectures": "num_genotypes",
        "model": "network",
        "optimizer": "recipe",
        "training": "recipe",
        "checkpoints": "states",
        # Metrics and scores.
        "accuracy": "valid_accuracy test_accuracy train_accuracy",
        "acc": "valid_accuracy test_accuracy train_accuracy",
        "top1": "valid_accuracy test_accuracy train_accuracy",
        "loss": "valid_loss test_loss train_loss",
        "time": "train_seconds",
        "naswot": "wot",
        "params": "num_parameters",
        "parameters": "num_parameters",
        "flops": "multiply_accumulates",
        "macs": "multiply_accumulates",
        "grad_norm": "gradient_norm",
        "ntk": "ntk_condition",
        # Commands.
        "train": "generate",
        "run": "generate",
        "resume": "generate",
        "show": "info",
        "describe": "info",
        "list": "query",
        "ls": "query",
        "top": "query",
        "best": "query",
        "check": "verify status",
        "fix": "repair",
        "plot": "report draw",
        "progress": "status",
        "combine": "merge unite",
        "join": "merge unite",
        "filter": "subset",
        "upload": "publish",
        "slurm": "jobs",
        "csv": "export",
        "help": "--help",
    }
)
"""Other names of settings, metrics, scores and commands, with what each may be called here."""

_WORDS: Mapping[str, str] = MappingProxyType(
    {"val": "valid", "validation": "valid", "acc": "accuracy", "n": "num", "lr": "learning_rate"}
)
"""Other spellings of the parts of a name, between its underscores."""


def meant(word: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that a word most likely means, best first; empty if none is close.

    A dotted name such as ``recipe.lr`` is first looked for in its own group.

    >>> meant("recipe.lr", ["recipe.learning_rate", "recipe.nesterov"])
    ['recipe.learning_rate']
    >>> meant("val_acc", ["test_accuracy", "valid_accuracy"])
    ['valid_accuracy']
    >>> meant("sttus", ["info", "status"])
    ['status']
    """
    known = list(known)
    group, _, name = word.lower().replace("-", "_").rpartition(".")
    of_group = [each for each in known if group and each.startswith(f"{group}.")]
    spelled = "_".join(_WORDS.get(part, part) for part in name.split("_"))
    names = list(dict.fromkeys([*_SAME.get(name, "").split(), spelled, name]))
    for place in (of_group, known):
        if same := [each for same in names for each in place if _last(each) == same]:
            return same[:most]
        by_last = {_last(each): each for each in place}
        if close := difflib.get_close_matches(spelled, by_last, n=most, cutoff=0.7):
            return [by_last[each] for each in close]
    return difflib.get_close_matches(word, known, n=most, cutoff=0.75)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word; empty if no known one is close.

    >>> "there is no metric val_acc" + did_you_mean("val_acc", ["test_loss", "valid_accuracy"])
    'there is no metric val_acc: did you mean valid_accuracy?'
    """
    *others, last = meant(word, known) or [""]
    either = f"{', '.join(others)} or {last}" if others else last
    return f": did you mean {either}?" if last else ""


def _last(name: str) -> str:
    return name.rpartition(".")[2]
