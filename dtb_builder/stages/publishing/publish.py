"""Make a folder for the Hugging Face Hub or Zenodo, and upload it to the Hub."""

import json
import os
import shutil
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.atomic import whole_folder, write_whole
from dtb_builder.dataset.export import columns, export_parquet
from dtb_builder.dataset.manifest import MANIFEST, sha256_of, write_manifest
from dtb_builder.dataset.provenance import whole_provenance
from dtb_builder.errors import ConfigError
from dtb_builder.shown import shown
from dtb_builder.stages.publishing.report import write_report
from dtb_builder.stages.ranking.between_seeds import between_seeds
from dtb_builder.stages.ranking.halfway import halfway
from dtb_builder.stages.work.byte_text import byte_text

__all__ = ["Publication", "make_folder", "upload"]

INDEX = "epochs.parquet"

_FILES = {
    INDEX: "every run and epoch with its metrics, Parquet",
    "scores.parquet": "scores of the states, Parquet",
    "report.html": "curves, distributions and failures, for any browser",
    "best.svg": "the best run's cells",
    "croissant.json": "this data set for machines",
    "CITATION.cff": "how to cite it",
    "LICENSE": "the data's licence",
    MANIFEST: f"hashes, which `dtb verify FOLDER` or `sha256sum --check {MANIFEST}` checks",
}

_BEST_CELLS = """The best run's cells, by valid accuracy after the last epoch:

![cells](best.svg)
"""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What the publisher says about a benchmark.

    Attributes:
        name: the name of the data set.
        authors: at least one author.
        licence: the SPDX name of the data's licence, such as CC-BY-4.0.
        url: the address of the data set.
        released: the day of the release.

    Raises:
        ConfigError: a value is empty or not of the right form.
    """

    name: str
    authors: tuple[str, ...]
    licence: str
    url: str
    released: date

    def __post_init__(self) -> None:
        if not self.authors:
            raise ConfigError("a publication needs at least one --author")
        for what, text in (("name", self.name), ("licence", self.licence), ("url", self.url)):
            if not text.strip() or "\n" in text:
                raise ConfigError(f"--{what} must be one line of text, got {text!r}")
        if "://" not in self.url:
            raise ConfigError(f"--url must be an address such as https://..., got {self.url!r}")

    @property
    def citation(self) -> str:
        """The citation as text."""
        return f"{', '.join(self.authors)}: {self.name}. {self.released.year}. {self.url}"


def make_folder(benchmark: Benchmark, about: Publication, folder: Path) -> list[Path]:
    """Fill a new folder with a benchmark and its description; the hashes are written last.

    Returns:
        the folder's files, sorted.

    Raises:
        ConfigError: the folder is not empty, or a package of the extra [publish] is missing.
        MissingVolumeError: a file of the benchmark is missing.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: publish into a new folder")
    benchmark.check_files()
    with whole_folder(folder) as unfinished:
        _fill(unfinished, benchmark, about)
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _fill(folder: Path, benchmark: Benchmark, about: Publication) -> None:
    for file in benchmark.files:
        _link_or_copy(file, folder / file.name)
    export_parquet(benchmark, folder / INDEX)
    scores = benchmark.files[0].with_name("scores.parquet")
    if scores.exists():
        shutil.copy(scores, folder / scores.name)
    write_report(benchmark, folder / "report.html", scores if scores.exists() else None)
    ranked = benchmark.top(1, by="valid_accuracy", epoch=-1)
    for best in ranked:
        write_whole(folder / "best.svg", best.genotype.to_svg().encode())
    write_whole(folder / "LICENSE", f"{about.licence}\n".encode())
    write_whole(folder / "CITATION.cff", _citation_file(about).encode())
    _write_croissant(benchmark, about, folder)
    names = {file.name for file in folder.iterdir()}
    write_whole(folder / "README.md", _card(benchmark, about, names).encode())
    write_manifest(folder)


def upload(folder: Path, repository: str, token: str | None) -> str:
    """Upload a folder of `make_folder` to the Hugging Face Hub.

    Args:
        folder: the folder.
        repository: OWNER/NAME of a data set, which is created if it does not exist.
        token: an access token; None for the login of this machine.

    Returns:
        the address of the data set.

    Raises:
        ConfigError: the Hub refuses, or huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ConfigError("uploading needs huggingface_hub, in the extra [publish]") from error
    if not (folder / MANIFEST).is_file():
        raise ConfigError(
            f"{folder} has no {MANIFEST}: it was not made by dtb publish, or is not complete"
        )
    hub = HfApi(token=token)
    try:
        hub.create_repo(repository, repo_type="dataset", exist_ok=True)
        done = hub.upload_folder(folder_path=folder, repo_id=repository, repo_type="dataset")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConfigError(f"cannot upload to {repository}: {error}") from error
    return str(done)


def _link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, since the file never changes; copy it if the disk allows no link.

    A symbolic link is followed, since a publication must contain the data.
    """
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _card(benchmark: Benchmark, about: Publication, names: set[str]) -> str:
    """The data set card: Markdown with the YAML front matter that the Hub reads.

    Args:
        benchmark: an open benchmark.
        about: what its publisher says about it.
        names: the names of the other files in the folder.
    """
    provenance = whole_provenance(benchmark)
    front = {
        "license": about.licence.lower(),
        "pretty_name": about.name,
        "tags": [
            *("neural-architecture-search", "darts", "hdf5", "croissant"),
            *(["training-states"] if benchmark.num_states else []),
        ],
        "configs": [{"config_name": "epochs", "data_files": INDEX}],
    }
    recipe = yaml.safe_dump(
        {key: provenance["config"][key] for key in ("recipe", "network", "states", "seeds")},
        sort_keys=False,
    )
    authors = " and ".join(about.authors)
    splits = ", ".join(f"{s['size']:,} {name}" for name, s in provenance["splits"].items())
    figures = "\n".join(f"| {name} | {value} |" for name, value in _figures(benchmark).items())
    volumes = " and its volumes" if len(benchmark.files) > 1 else ""
    there = {name: what for name, what in _FILES.items() if name in {MANIFEST, *names}}
    rows = [(f"`{benchmark.file_name}`{volumes}", f"{_content(benchmark)}, HDF5")]
    rows += [(f"`{name}`", what) for name, what in there.items()]
    files = "\n".join(f"| {name} | {what} |" for name, what in rows)
    cells = f"{_BEST_CELLS}\n" if "best.svg" in names else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# {about.name}

Trained DARTS architectures: {_content(benchmark)}, made with darts-training-bench, on
{escape(shown(provenance["images"]["name"]))} ({escape(shown(splits))} images).

| | |
|---|---|
{figures}

{cells}## Files

| file | what it is |
|---|---|
{files}

## Read it

```python
from dtb_builder import Benchmark

bench = Benchmark("{benchmark.file_name}")
best = bench.top(1, by="valid_accuracy", epoch=-1)[0]
print(best.genotype, best.metric("test_accuracy", epoch=-1))
{_state_example(benchmark)}```

## Recipe

```yaml
{recipe}```

## Cite it

```bibtex
@misc{{dtb, title={{{about.name}}}, author={{{authors}}}, year={{{about.released.year}}},
  url={{{about.url}}}}}
```
"""


def _state_example(benchmark: Benchmark) -> str:
    """A line of code that reads a stored state; empty if there is none."""
    for best in benchmark.top(1, by="valid_accuracy", epoch=-1):
        if best.state_epochs:
            return f"state = best.state(epoch={best.state_epochs[-1]})\n"
        if best.state_steps:
            return f"state = best.state(step={best.state_steps[-1]})\n"
    return ""


def _figures(benchmark: Benchmark) -> dict[str, str]:
    """Counts and ranges."""
    figures = {
        "runs": f"{len(benchmark):,} of {benchmark.num_epochs} epochs",
        "failed runs": f"{len(benchmark.failures):,}",
        "training states": f"{benchmark.num_states:,}",
        "bytes": byte_text(sum(file.stat().st_size for file in benchmark.files)),
        "parameters": f"{benchmark.num_parameters.min():,} to {benchmark.num_parameters.max():,}",
    }
    branched = Counter(run.branch_epoch for run in benchmark if run.branch_epoch is not None)
    if branched:
        parts = (f"{count:,} from epoch {epoch}" for epoch, count in sorted(branched.items()))
        figures["runs that go on from other runs"] = ", ".join(parts)
    for name in ("valid_accuracy", "test_accuracy"):
        last = benchmark.array(name, epoch=-1).compressed()
        if len(last):
            low, middle, high = (f"{value:.4f}" for value in np.quantile(last, (0, 0.5, 1)))
            figures[f"{name}, last epoch"] = f"{low} to {high}, median {middle}"
        if (half := halfway(benchmark, accuracy=name)) is not None:
            figures[f"{name}, length of the training"] = str(half)
        if (seeds := between_seeds(benchmark, accuracy=name)) is not None:
            figures[f"{name}, between seeds"] = str(seeds)
    return figures


def _content(benchmark: Benchmark) -> str:
    return "metrics and training states" if benchmark.num_states else "metrics without states"


def _citation_file(about: Publication) -> str:
    settings = {
        "cff-version": "1.2.0",
        "message": "If you use this data set, please cite it.",
        "type": "dataset",
        "title": about.name,
        "authors": [{"name": author} for author in about.authors],
        "license": about.licence,
        "url": about.url,
        "date-released": about.released.isoformat(),
    }
    return yaml.safe_dump(settings, sort_keys=False)


def _write_croissant(benchmark: Benchmark, about: Publication, folder: Path) -> None:
    """Write the Croissant description, and check it by reading it back."""
    try:
        import mlcroissant as mlc
    except ImportError as error:
        raise ConfigError("publishing needs mlcroissant, in the extra [publish]") from error
    kinds = {
        ".h5": ("application/x-hdf5", _content(benchmark)),
        ".parquet": ("application/x-parquet", "a table"),
    }
    files: list[Any] = [
        mlc.FileObject(
            id=file.name,
            name=file.name,
            description=kinds[file.suffix][1],
            content_url=file.name,
            content_size=f"{file.stat().st_size} B",
            encoding_formats=[kinds[file.suffix][0]],
            sha256=sha256_of(file),
        )
        for file in sorted(folder.iterdir())
        if file.suffix in kinds
    ]
    types: dict[str, Any] = {"double": mlc.DataType.FLOAT, "string": mlc.DataType.TEXT}
    fields = [
        mlc.Field(
            id=f"epochs/{name}",
            name=name,
            description=meaning,
            data_types=types.get(str(kind), mlc.DataType.INTEGER),
            source=mlc.Source(file_object=INDEX, extract=mlc.Extract(column=name)),
        )
        for name, (kind, meaning) in columns().items()
    ]
    described = mlc.Metadata(
        name=about.name,
        description=f"Trained DARTS architectures: {_content(benchmark)} on "
        f"{whole_provenance(benchmark)['images']['name']}.",
        license=[about.licence],
        url=about.url,
        cite_as=about.citation,
        version="1.0.0",
        date_published=datetime.combine(about.released, time()),
        distribution=files,
        record_sets=[mlc.RecordSet(id="epochs", name="epochs", fields=fields)],
    )
    file = folder / "croissant.json"
    write_whole(file, json.dumps(described.to_json(), indent=1, default=str).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from packages of mlcroissant
        checked: Any = mlc.Dataset(jsonld=file)
    if checked.metadata.issues.errors:
        raise ConfigError(f"{file} is not valid Croissant: {checked.metadata.issues.report()}")
