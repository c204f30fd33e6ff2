"""Train the winner of a search: plan, generate and merge a single run."""

from collections.abc import Iterator

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.stages.generation.driver import Progress, generate
from dtb_builder.stages.generation.merge import merge_folder
from dtb_builder.stages.generation.plan import plan
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.search.config import SearchConfig
from dtb_builder.stages.search.driver import SearchFolder
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.settings.space import SpaceConfig
from dtb_builder.stages.settings.states import StatesConfig

__all__ = ["train_winner", "winners_run"]


def train_winner(
    folder: SearchFolder, config: SearchConfig, cluster: ClusterConfig
) -> Iterator[Progress]:
    """Train a search's winner with the whole recipe; continues a stopped training.

    Yields:
        the number of finished epochs, at least once a second.

    Raises:
        MissingShardError: the training was given up after its last attempt.
        StorageError, ImagesError, LockedError: see `generate`.
    """
    run_folder = RunFolder(folder.run_folder)
    run_folder.path.mkdir(exist_ok=True)
    plan(run_folder, _config(folder, config))
    launch = LaunchConfig(cluster=cluster, retry=None, allow_missing=False, volume_size=None)
    for event in generate(run_folder, launch):
        if isinstance(event, Progress):
            yield event
    for _ in merge_folder(run_folder, launch):
        pass


def winners_run(folder: SearchFolder) -> Run:
    """The winner's run in the merged benchmark."""
    (run,) = Benchmark(RunFolder(folder.run_folder).benchmark_file)
    return run


def _config(folder: SearchFolder, config: SearchConfig) -> Config:
    return Config(
        space=SpaceConfig(
            kind="file",
            seed=0,
            num_genotypes=None,
            file=str(folder.winner_file),
            parent=None,
            names=(),
        ),
        network=config.network,
        recipe=config.recipe,
        images=config.images,
        states=StatesConfig(epochs="all"),
        compute=config.compute,
        seeds=(config.seed,),
        shard_size=1,
    )
