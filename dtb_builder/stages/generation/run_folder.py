"""The run folder of a generation; no other module knows its file names."""

import contextlib
import csv
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from dtb_builder.dataset.atomic import remove_unfinished, whole_file, write_whole
from dtb_builder.dataset.json_object import check_shape, json_object
from dtb_builder.dataset.schema import PROVENANCE_SHAPE, Shape
from dtb_builder.errors import ConfigError, DamagedFileError, DivergedError, PlanMismatchError
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.record import Moment
from dtb_builder.remembered import remembered
from dtb_builder.stages.generation.same_study import advice
from dtb_builder.stages.settings.config import Config, deciding_settings, stored_settings
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.settings.plain import check_settings, plain
from dtb_builder.stages.settings.shard_range import ShardRange
from dtb_builder.stages.work.locking import FolderLock, check_lockable, held

__all__ = ["Failures", "PlannedRun", "RunFolder"]

_RUN_LOCK_SECONDS = 60
"""Longer than a worker lives on after its cluster has ended."""

_OWN_FILES = (
    *("config.yaml", "provenance.json", "plan.csv", "parent.h5"),
    *("dtb.h5", "states-*.h5", ".lock.json"),
)
"""Files that only the holder of the folder's lock writes; reports and exports need no lock."""

_MOST_CHARACTERS = 2**28
"""Of a run's failures: a traceback may be long."""

_PLANNED_SHAPE: Shape = {"config": {"shard_size": int, "recipe": {"num_epochs": int}}}
"""What is read of a plan where only its progress is asked for."""

_PLAN_FIELDS = ("run", "shard", "seed", "order_seed", "genotype")


@dataclass(frozen=True)
class PlannedRun:
    """One line of the plan.

    Attributes:
        number: the run's number.
        shard: the number of the shard it goes into.
        seed: of its initialisation.
        order_seed: of its data order, augmentation and drop-path.
        genotype: its canonical text.
    """

    number: int
    shard: int
    seed: int
    order_seed: int
    genotype: str

    @property
    def key(self) -> bytes:
        """SHA-256 of the genotype's canonical text, as ``runs/key`` has it."""
        return sha256(self.genotype.encode()).digest()


@dataclass(frozen=True)
class Failures:
    """The failed attempts at a run.

    Attributes:
        messages: the tracebacks, oldest first.
        given_up: whether the run will not be tried again.
    """

    messages: tuple[str, ...]
    given_up: bool

    @property
    def reason(self) -> str:
        """The last line of the last traceback; an error of this package by its name alone."""
        last = self.messages[-1].strip().rpartition("\n")[2]
        return last.removeprefix("dtb_builder.errors.")

    @property
    def is_final(self) -> bool:
        """Whether another attempt would fail likewise: its loss is no number from the beginning."""
        return DivergedError.__name__ in self.reason.partition(":")[0]


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of a run folder.

    ========================  ==============================================================
    ``config.yaml``           what decides the data
    ``provenance.json``       that, with the images' and the splits' hashes: goes into every file
    ``plan.csv``              a line for every run; written last, so that it marks a whole plan
    ``parent.h5``             of a branch: the runs that it goes on from, up to there
    ``shards/``               finished shards
    ``working/``              journals, checkpoints and failures of the shards in progress
    ``damaged/``              damaged shards that a repair has set aside
    ``logs/``                 one text file per run
    ``calibration.json``      the seconds of a run, as ``dtb plan --calibrate`` timed them
    ``kernels/``              on which GPUs the compiled passes were compared with the modules
    ``dtb.h5``                the merged benchmark; ``states-*.h5`` beside it are its volumes
    ========================  ==============================================================
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The config, as YAML."""
        return self.path / "config.yaml"

    @property
    def provenance_file(self) -> Path:
        """The provenance, as JSON."""
        return self.path / "provenance.json"

    @property
    def plan_file(self) -> Path:
        """The plan, as CSV."""
        return self.path / "plan.csv"

    @property
    def parent_file(self) -> Path:
        """The parent runs of a branch."""
        return self.path / "parent.h5"

    @property
    def benchmark_file(self) -> Path:
        """The merged benchmark."""
        return self.path / "dtb.h5"

    @property
    def shards_folder(self) -> Path:
        """The folder of finished shards."""
        return self.path / "shards"

    def shard_file(self, shard: int) -> Path:
        """A finished shard."""
        return self.shards_folder / f"shard-{shard:05d}.h5"

    def shard_files(self) -> list[Path]:
        """The finished shards, by number."""
        return sorted(self.shards_folder.glob("shard-*.h5"))

    def working_folder(self, shard: int) -> Path:
        """The folder of a shard in progress."""
        return self.path / "working" / f"shard-{shard:05d}"

    def journal_file(self, run: PlannedRun) -> Path:
        """The journal of a run in progress."""
        return self.working_folder(run.shard) / f"run-{run.number:08d}.journal"

    def checkpoint_file(self, run: PlannedRun, epoch: int) -> Path:
        """The checkpoint of a run after an epoch."""
        return self.working_folder(run.shard) / f"run-{run.number:08d}.epoch-{epoch}.checkpoint"

    def checkpoint_files(self, run: PlannedRun) -> list[Path]:
        """All checkpoints of a run."""
        return list(self.working_folder(run.shard).glob(f"run-{run.number:08d}.epoch-*.checkpoint"))

    def clear_working_folder(self, shard: int) -> None:
        """Remove the files of a shard in progress, once the shard is written."""
        assert self.shard_file(shard).exists(), f"shard {shard} has no file yet"
        shutil.rmtree(self.working_folder(shard), ignore_errors=True)

    def partial_file(self, shard: int) -> Path:
        """The temporary shard that a merge writes for a shard in progress."""
        return self.working_folder(shard) / "partial.h5"

    def damaged_file(self, file: Path) -> Path:
        """Where a repair moves a damaged or foreign shard."""
        return self.path / "damaged" / file.name

    def failures_file(self, run: PlannedRun) -> Path:
        """The failed attempts at a run."""
        return self.working_folder(run.shard) / f"run-{run.number:08d}.failures.json"

    def damage_file(self, run: PlannedRun) -> Path:
        """What was found damaged of a run in progress."""
        return self.working_folder(run.shard) / f"run-{run.number:08d}.damage.json"

    def log_file(self, run: PlannedRun) -> Path:
        """The log of a run."""
        return self.path / "logs" / f"run-{run.number:08d}.log"

    @property
    def kernels_folder(self) -> Path:
        """The folder with passed comparisons of compiled passes and modules."""
        return self.path / "kernels"

    @property
    def calibration_file(self) -> Path:
        """The seconds of a run, as they were timed."""
        return self.path / "calibration.json"

    @property
    def ray_log_file(self) -> Path:
        """Ray's log, with the output of its workers."""
        return self.path / "logs" / "ray.log"

    # The plan.

    @property
    def is_planned(self) -> bool:
        """Whether the folder has a whole plan."""
        return self.plan_file.exists()

    def _check_planned(self) -> None:
        if self.path.is_file():
            raise ConfigError(f"{self.path} is a file, not a run folder")
        if not self.is_planned:
            raise ConfigError(f"{self.path} is not planned: run dtb plan {self.path} first")

    @remembered
    def config(self) -> Config:
        """The config that the folder was planned with.

        Raises:
            ConfigError: the folder is not planned, or its config cannot be parsed.
            PlanMismatchError: the config was edited since.
            DamagedFileError: a file of the plan is missing, or cannot be read.
        """
        self._check_planned()
        import yaml  # here, since a reader's installation has no YAML

        try:
            config = parse(Config, yaml.safe_load(_read_text(self.config_file)))
        except yaml.YAMLError as error:
            raise ConfigError(f"{self.config_file} is not YAML: {error}") from error
        except ConfigError as error:
            error.add_note(f"in {self.config_file}")
            raise
        self._check_settings(config, f"{self.config_file} is not what {self.path} was planned with")
        return config

    @remembered
    def provenance(self) -> str:
        """The JSON text of the provenance, which every file of the plan has.

        Raises:
            ConfigError: the folder is not planned.
            DamagedFileError: its file is missing.
        """
        self._check_planned()
        return _read_text(self.provenance_file)

    @remembered
    def provenance_settings(self) -> dict[str, Any]:
        """The provenance, parsed.

        Raises:
            DamagedFileError: its file is missing, or not that of a plan.
        """
        found = json_object(self.provenance, self.provenance_file)
        for shape in (PROVENANCE_SHAPE, _PLANNED_SHAPE):
            check_shape(found, shape, str(self.provenance_file), whole=True)
        return found

    @remembered
    def plan_id(self) -> str:
        """The hash that identifies this plan."""
        return sha256(self.provenance.encode()).hexdigest()

    def check_config(self, config: Config) -> None:
        """Refuse a config that differs from the folder's.

        Raises:
            PlanMismatchError: settings differ; the message lists them.
        """
        self._check_settings(config, f"{self.path} was planned with another config")

    def _check_settings(self, config: Config, otherwise: str) -> None:
        stored, given = (
            stored_settings(self.provenance_settings["config"]),
            stored_settings(deciding_settings(config)),
        )
        differ = {key for key in stored.keys() | given.keys() if stored.get(key) != given.get(key)}
        check_settings(
            stored,
            given,
            what=otherwise,
            instead="\n".join(
                ["use the folder's settings, or another run folder", *advice(differ, self.path)]
            ),
            then="when it was planned",
        )

    def check_plan(self) -> None:
        """Check that plan.csv was not edited.

        Raises:
            PlanMismatchError: it was edited.
        """
        found = _sha256(self.plan_file)
        if found != self.provenance_settings["plan"]["sha256"]:
            raise PlanMismatchError(
                f"{self.plan_file} is not what {self.path} was planned with: its SHA-256 is "
                f"{found[:12]}, expected {self.provenance_settings['plan']['sha256'][:12]}"
            )

    def write_config(self, config: Config) -> None:
        """Write the config, for a new plan or because the images have moved."""
        import yaml

        settings = plain(config)
        write_whole(self.config_file, yaml.safe_dump(settings, sort_keys=False).encode())
        self.__dict__.pop("config", None)  # the cached old config

    def write_plan(
        self, config: Config, provenance: dict[str, Any], runs: Iterable[PlannedRun]
    ) -> None:
        """Write config, provenance and plan; the same arguments give the same bytes.

        The runs are written one by one, so memory does not grow with the plan.
        """
        for folder in (self.shards_folder, self.path / "working", self.path / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.plan_file) as temporary:  # takes its name last
            num_runs = 0
            with temporary.open("w", newline="") as file:
                file.write(",".join(_PLAN_FIELDS) + "\n")
                for run in runs:  # as csv's writer does, which takes a fifth of a large plan's time
                    assert '"' not in run.genotype, "a genotype's text has no such sign"
                    facts = f"{run.number},{run.shard},{run.seed},{run.order_seed}"
                    file.write(f'{facts},"{run.genotype}"\n')
                    num_runs += 1
            plan = {"runs": num_runs, "sha256": _sha256(temporary)}
            stored = json.dumps(provenance | {"plan": plan}, sort_keys=True, indent=1)
            self.write_config(config)
            write_whole(self.provenance_file, stored.encode())

    def plan(self) -> Iterator[PlannedRun]:
        """The planned runs, by number.

        Raises:
            ConfigError: the folder is not planned.
            DamagedFileError: a line cannot be read.
        """
        self._check_planned()
        with self.plan_file.open(newline="") as file:
            lines = csv.reader(file)
            if tuple(next(lines, ())) != _PLAN_FIELDS:
                raise DamagedFileError(f"{self.plan_file}: expected the header {_PLAN_FIELDS}")
            for line in lines:
                try:
                    *facts, genotype = line
                    number, shard, seed, order_seed = map(int, facts)
                    yield PlannedRun(number, shard, seed, order_seed, genotype)
                except ValueError as error:
                    raise DamagedFileError(f"{self.plan_file}:{lines.line_num}: {error}") from error

    @remembered
    def moments(self) -> tuple[Moment, ...]:
        """The moments at which the state of every run is stored."""
        return self.config.moments(self.num_trained_on)

    @property
    def num_runs(self) -> int:
        """The number of planned runs, without reading the plan."""
        return int(self.provenance_settings["plan"]["runs"])

    @property
    def network_spec(self) -> NetworkSpec:
        """The spec of the planned networks."""
        return NetworkSpec(**self.provenance_settings["network"])

    @property
    def num_trained_on(self) -> int:
        """The number of training images."""
        return int(self.provenance_settings["splits"]["train"]["size"])

    @property
    def num_evaluated(self) -> tuple[int, int]:
        """The validation and the test images of an evaluation."""
        splits = self.provenance_settings["splits"]
        return int(splits["valid"]["size"]), int(splits["test"]["size"])

    @property
    def num_shards(self) -> int:
        """The number of planned shards."""
        return -(-self.num_runs // self.shard_size)

    # These read no YAML, so that the status is told without what a training needs.

    @property
    def shard_size(self) -> int:
        """The planned runs of a shard."""
        size = int(self.provenance_settings["config"]["shard_size"])
        if size < 1:
            raise DamagedFileError(f"{self.provenance_file}: shard_size should be 1 or more")
        return size

    @property
    def num_epochs(self) -> int:
        """The last epoch of the planned runs."""
        return int(self.provenance_settings["config"]["recipe"]["num_epochs"])

    @property
    def first_epoch(self) -> int:
        """The epoch after which training starts: 0, or the parents' epoch for a branch."""
        branch = self.provenance_settings["config"].get("branch")
        return 0 if branch is None else int(branch["epoch"])

    def shards(self, wanted: ShardRange | None = None) -> Iterator[tuple[int, list[PlannedRun]]]:
        """The planned shards with their runs, all or those of a range."""
        shard: list[PlannedRun] = []
        for run in self.plan():
            if wanted is not None and run.shard not in wanted:
                if run.shard > wanted.last:
                    break
                continue
            if shard and run.shard != shard[0].shard:
                yield shard[0].shard, shard
                shard = []
            shard.append(run)
        if shard:
            yield shard[0].shard, shard

    # The calibration.

    def write_calibration(self, seconds: float) -> None:
        """Remember the seconds of a run, for the first forecasts."""
        write_whole(self.calibration_file, json.dumps({"run_seconds": seconds}).encode())

    @property
    def calibrated_seconds(self) -> float | None:
        """The seconds of a run as they were timed, None if they were not.

        Raises:
            DamagedFileError: the file was edited.
        """
        try:
            text = self.calibration_file.read_text()
        except FileNotFoundError:
            return None
        stored = json_object(text, self.calibration_file)
        check_shape(stored, {"run_seconds": float}, str(self.calibration_file), whole=True)
        return float(stored["run_seconds"])

    # Failures.

    def failures(self, run: PlannedRun) -> Failures:
        """The failed attempts at a run."""
        file = self.failures_file(run)
        try:
            text = file.read_text()
        except FileNotFoundError:  # there are none, or the shard has been closed meanwhile
            return Failures((), given_up=False)
        stored = json_object(text, file, most=_MOST_CHARACTERS)
        check_shape(stored, {"messages": list, "given_up": bool}, str(file), whole=True)
        return Failures(tuple(map(str, stored["messages"])), given_up=stored["given_up"])

    def add_failure(self, run: PlannedRun, message: str) -> None:
        """Record a failed attempt."""
        known = self.failures(run)
        self._write_failures(run, Failures((*known.messages, message), known.given_up))

    def give_up(self, run: PlannedRun) -> None:
        """Mark a run as given up, until retry=failed."""
        self._write_failures(run, Failures(self.failures(run).messages, given_up=True))

    def forgive(self, run: PlannedRun) -> None:
        """Remove a run's failed attempts, so that it is tried again."""
        self.failures_file(run).unlink(missing_ok=True)

    def _write_failures(self, run: PlannedRun, failures: Failures) -> None:
        self.working_folder(run.shard).mkdir(parents=True, exist_ok=True)
        write_whole(self.failures_file(run), json.dumps(asdict(failures), indent=1).encode())

    # Damage.

    def damage(self, run: PlannedRun) -> tuple[str, ...]:
        """What was found damaged of a run in progress, oldest first."""
        file = self.damage_file(run)
        try:
            text = file.read_text()
        except FileNotFoundError:
            return ()
        stored = json_object(text, file, most=_MOST_CHARACTERS)
        check_shape(stored, {"messages": list}, str(file), whole=True)
        return tuple(map(str, stored["messages"]))

    def add_damage(self, run: PlannedRun, message: str) -> None:
        """Record what was found damaged, and what is done about it; the caller holds the run."""
        messages = [*self.damage(run), message]
        write_whole(self.damage_file(run), json.dumps({"messages": messages}, indent=1).encode())

    # The locks.

    @contextlib.contextmanager
    def locked(self, *, seconds: float = 2) -> Iterator[None]:
        """Hold the lock of the folder, so that no other process writes to it.

        Args:
            seconds: how long to wait for the lock; `holders` holds it for less than 2 seconds.

        Raises:
            LockedError: somebody else holds it, or some of its shards.
        """
        with FolderLock(self.path).held(seconds=seconds):
            remove_unfinished(self.path, _OWN_FILES)
            remove_unfinished(self.shards_folder, ["shard-*.h5"])
            yield

    @contextlib.contextmanager
    def shards_locked(self, shards: ShardRange) -> Iterator[None]:
        """Hold the lock of a range of shards; other processes may hold other ranges.

        Raises:
            LockedError: another process holds the folder, or one of these shards.
        """
        with FolderLock(self.path).held_range(shards):
            yield

    def holders(self) -> tuple[str, ...]:
        """A text on each process that holds the folder or some of its shards."""
        return FolderLock(self.path).holders()

    @contextlib.contextmanager
    def run_locked(self, run: PlannedRun) -> Iterator[None]:
        """Hold the lock of a run, since a worker may live on after its cluster.

        Raises:
            LockedError: another process has held it all the time.
        """
        self.working_folder(run.shard).mkdir(parents=True, exist_ok=True)
        lock = self.journal_file(run).with_suffix(".lock")
        with held(
            lock,
            seconds=_RUN_LOCK_SECONDS,
            otherwise=lambda: f"another process trains run {run.number} of {self.path}",
        ):
            yield

    def check_writeable(self) -> None:
        """Make the folder if it does not exist, and check that a generation can write to it.

        Raises:
            ConfigError: it cannot, or the folder is that of a search.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file, not a folder")
        if (self.path / "search.json").exists():
            raise ConfigError(f"{self.path} is the folder of a search: generate in another one")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                check_lockable(file, self.path)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise ConfigError(f"{self.path} cannot be written to: {reason}") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _read_text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        raise DamagedFileError(f"{file} is missing, though the folder is planned") from None
