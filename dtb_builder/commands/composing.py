"""Compose the settings of the command line; the only module that imports Hydra."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtb_builder.errors import ConfigError
from dtb_builder.meant import did_you_mean

if TYPE_CHECKING:
    from dtb_builder.stages.generation.run_folder import RunFolder
    from dtb_builder.stages.settings.config import Config
    from dtb_builder.stages.settings.launch import LaunchConfig

__all__ = [
    "compose",
    "ensure_planned",
    "given_settings",
    "is_launch_setting",
    "known_settings",
    "launch_config",
    "wanted_config",
]


_LISTED = ("file", "named")
"""Kinds of space whose genotypes are listed, all of which are taken."""


def compose(settings: Sequence[str], root: str = "config") -> dict[str, Any]:
    """The whole configuration of conf/config.yaml, or of another root, as plain values.

    Raises:
        ConfigError: a setting is unknown or cannot be read.
    """
    for setting in settings:
        if "=" not in setting and not setting.startswith("~"):
            raise ConfigError(_no_value(setting, root))
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import (
        InterpolationKeyError,
        InterpolationResolutionError,
        MissingMandatoryValue,
        OmegaConfBaseException,
    )

    try:
        with initialize_config_module("dtb_builder.conf", version_base="1.3"):
            composed = hydra_compose(root, overrides=list(settings))
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        # The rest of the message suggests Hydra's syntax for new keys, which dtb does not accept.
        reason = re.split(
            r"\n\s*(?:To append|Config search path|full_key|3\. To sweep)", str(error)
        )[0].strip()
        if isinstance(error, MissingMandatoryValue):
            reason = f"{error.full_key} must be given: {error.full_key}=VALUE"
        if unknown := re.match(r"Could not override '(.+?)'", reason):
            hint = did_you_mean(unknown[1], known_settings(root))
            reason = f"there is no setting {unknown[1]}{hint}"
        if unknown := re.search(r"Could not find '(\w+)/(.+?)'", reason):
            choices = known_settings(root).get(unknown[1], ())
            hint = did_you_mean(unknown[2], choices) or f": there are {', '.join(choices)}"
            reason = f"there is no {unknown[1]}={unknown[2]}{hint}"
        if isinstance(error, OverrideParseException):
            reason += (
                "\na value with any of = , ; ~ # ! & ^ < > ` ' \" ( ) [ ] { } or a letter beyond "
                "ASCII needs quotes, within those of the shell: 'images.root=\"/data/a=b\"'"
            )
        if isinstance(error, InterpolationResolutionError | InterpolationKeyError):
            reason += "\n${...} stands for another setting, quoted or not: link a folder so named"
        file = resources.files("dtb_builder.conf").joinpath(f"{root}.yaml")
        hint = "dtb plan RUN_FOLDER --show prints" if root == "config" else f"{file} lists"
        raise ConfigError(f"{reason}\n{hint} every setting") from error
    assert isinstance(plain, dict)
    composed = {str(key): value for key, value in plain.items()}
    space = composed.get("space", {})
    if space.get("kind") in _LISTED and not any(map(_is_num_genotypes, settings)):
        space["num_genotypes"] = None  # an experiment's, of genotypes that it draws
    return composed


def _no_value(word: str, root: str) -> str:
    """Why a word is no setting, and which one it may belong to."""
    known = known_settings(root)
    if of := [group for group, choices in known.items() if word in choices]:
        hint = f": did you mean {' or '.join(f'{group}={word}' for group in of)}?"
    else:
        hint = ", without blanks" + did_you_mean(word, known).removesuffix("?")
        hint += "=VALUE?" if hint.startswith(", without blanks:") else ""
    return f"{word!r} is no setting, which is key=value or group=name{hint}"


def _is_num_genotypes(setting: str) -> bool:
    return setting.partition("=")[0].lstrip("+~") == "space.num_genotypes"


def given_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The given settings, nested and without those of the launch, checked by `compose`."""
    composed = compose(settings)
    nested: dict[str, Any] = {}
    for setting in settings:
        if is_launch_setting(setting):
            continue
        *path, name = setting.partition("=")[0].split(".")
        of, into = composed, nested
        for part in path:
            of, into = of.get(part, {}), into.setdefault(part, {})
        if name not in of:
            raise ConfigError(f"{setting}: a setting is given as key=value")
        into[name] = of[name]
    return nested


def is_launch_setting(setting: str) -> bool:
    """Whether a setting such as ``cluster.num_cpus=2`` may change from one launch to the next."""
    from dtb_builder.stages.settings.launch import LAUNCH_KEYS

    return setting.partition("=")[0].lstrip("+~").partition(".")[0] in LAUNCH_KEYS


def ensure_planned(
    folder: "RunFolder",
    given: Sequence[str],
    composed: Mapping[str, Any],
    *,
    adopting: Sequence[Path] = (),
    widening: Sequence[Path] = (),
) -> None:
    """Plan a new folder, or compare the given settings with those of a planned one.

    Only the given settings are compared; but all settings if a whole group was given, such as
    ``recipe=nb301``.

    Args:
        folder: the run folder.
        given: settings of the command line.
        composed: the whole configuration that they make.
        adopting: studies whose runs a new plan is to take over.
        widening: studies whose runs it is to train again.
    """
    from dtb_builder.stages.generation.plan import plan

    if not folder.is_planned or not all(map(is_launch_setting, given)):
        config = wanted_config(folder, given, composed)
        plan(folder, config, adopting=adopting, widening=widening)


def wanted_config(
    folder: "RunFolder", given: Sequence[str], composed: Mapping[str, Any]
) -> "Config":
    """The config that settings make: of a planned folder its own one, updated by them.

    Raises:
        ConfigError: a setting is of the wrong type or out of range.
    """
    from dtb_builder.stages.settings.config import Config
    from dtb_builder.stages.settings.launch import LAUNCH_KEYS
    from dtb_builder.stages.settings.parsing import parse

    data = {key: value for key, value in composed.items() if key not in LAUNCH_KEYS}
    return parse(Config, _with_own(folder, given, data) if folder.is_planned else data)


def _with_own(
    folder: "RunFolder", given: Sequence[str], composed: dict[str, Any]
) -> dict[str, Any]:
    """The folder's own settings, updated by those given; all composed ones if a group was given."""
    from dtb_builder.stages.settings.plain import plain

    own = plain(folder.config)
    for setting in given:
        if is_launch_setting(setting):
            continue
        *path, name = setting.partition("=")[0].split(".")
        of, into = composed, own
        for part in path:
            of, into = of.get(part, {}), into.get(part, {})
        if name not in of or isinstance(of[name], Mapping):
            return composed
        into[name] = of[name]
    return own


def known_settings(root: str = "config") -> dict[str, tuple[str, ...]]:
    """Every setting of a root of ``conf/``, dotted; those that are groups with their choices."""
    from dtb_builder.stages.settings.conf import read_conf
    from dtb_builder.stages.settings.plain import flat

    conf = resources.files("dtb_builder.conf")
    known: dict[str, tuple[str, ...]] = {}
    own = read_conf(root)
    for default in own.pop("defaults"):
        if isinstance(default, str):
            known |= {} if default == "_self_" else known_settings(default)
            continue
        (group,) = default
        files = sorted(f.name for f in conf.joinpath(group).iterdir() if f.name.endswith(".yaml"))
        known[group] = tuple(name.removesuffix(".yaml") for name in files)
        if group != "experiment":  # its settings are those of the other groups
            for choice in known[group]:
                known |= dict.fromkeys(flat(read_conf(f"{group}/{choice}"), f"{group}."), ())
    del own["hydra"]
    return known | dict.fromkeys(flat(own), ())


def launch_config(composed: Mapping[str, Any]) -> "LaunchConfig":
    """The part of a whole configuration that may change from one launch to the next."""
    from dtb_builder.stages.settings.launch import LAUNCH_KEYS, LaunchConfig
    from dtb_builder.stages.settings.parsing import parse

    return parse(LaunchConfig, {key: composed[key] for key in LAUNCH_KEYS})
