import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dtb_builder import Benchmark, cli
from dtb_builder.cli import main

EXAMPLE = Path(__file__).parents[1] / "dtb_builder" / "example.h5"
COMMANDS = [
    *("plan", "generate", "status", "merge", "branch", "jobs"),
    *("info", "query", "export", "report", "draw"),
    *("score", "rank", "search", "reproduce", "replay"),
    *("verify", "repair", "unite", "subset", "publish"),
]

SEEN = """
import sys
from dtb_builder.cli import main
try:
    main(sys.argv[2:])
except SystemExit:
    pass
print(sorted(name for name in sys.argv[1].split(",") if name in sys.modules))
"""


def imported(*arguments: str, of: str) -> list[str]:
    """Which packages of a list a command imports."""
    asked = [sys.executable, "-c", SEEN, of, *arguments]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


def test_the_help_imports_nothing_heavy() -> None:
    assert imported("--help", of="torch,h5py,numpy,hydra,ray,yaml,tqdm") == []


def test_a_misspelt_setting_is_told_without_torch(tmp_path: Path) -> None:
    wrong = ("plan", str(tmp_path / "run"), "recipe.num_epoch=3")
    assert imported(*wrong, of="hydra,torch,ray") == ["hydra"]


def test_the_help_has_every_command_once_with_an_example_that_parses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^  ([a-z]+)  +[A-Z]", capsys.readouterr().out, re.MULTILINE)
    assert listed == COMMANDS
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        examples = said.partition("example:\n")[2].splitlines()
        assert examples
        for example in examples:
            given, rest = cli._parser()[0].parse_known_args(shlex.split(example)[1:])
            assert given.verb == name
            assert all("=" in word and given.conf_file for word in rest)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("sttus", "there is no command 'sttus': did you mean status?"),
        ("train", "did you mean generate?"),
        ("help", "did you mean --help?"),
        ("frobnicate", "dtb --help lists them"),
        ("plan run --shw", "takes no '--shw': did you mean --show?"),
        ("plan run --lr 3", "settings are given as key=value; did you mean recipe.learning_rate?"),
        ("generate recipe=darts", "recipe=darts is a setting: name a folder before it"),
        ("info file extra", "takes no 'extra': see dtb info --help"),
        ("plan", "are required: RUN_FOLDER\n"),
        (
            "publish f --into p --name plan --author a --licence l --url u --dry-run --foo",
            "dtb publish: error: takes no '--foo'",
        ),
    ],
)
def test_a_mistyped_command_or_option_is_told_what_is_meant(
    typed: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(typed.split())
    assert left.value.code == 2
    assert hint in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "make a benchmark:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("recipe.num_epochs=abc", "recipe.num_epochs must be int, got 'abc'"),
        ("recipe.num_epochs=0", "num_epochs must be a whole number >= 1, got 0"),
        ("cluster.num_cpus=0", "cluster.num_cpus must be at least 1, got 0"),
        ("images.name=cifr10", "got 'cifr10': did you mean cifar10 or cifar100?"),
        ("space=named space.names=[DARTS_V3]", "did you mean DARTS_V2 or DARTS_V1?"),
        ("recipe.lr=0.1", "no setting recipe.lr: did you mean recipe.learning_rate?"),
        ("experiment=quikstart", "no experiment=quikstart: did you mean quickstart?"),
        ("quickstart", "group=name: did you mean experiment=quickstart?"),
        ("recipe.lr = 3", "without blanks: did you mean recipe.learning_rate=VALUE?"),
    ],
)
def test_showing_the_settings_checks_them(
    settings: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path), "--show", *settings.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dtb veri", {"verify"}),
        ("dtb query --ge", {"--genotype"}),
        ("dtb query --by valid_", {"valid_loss", "valid_accuracy"}),
        ("dtb plan run recipe.learning", {"recipe.learning_rate="}),
        ("dtb plan run experiment=quick", {"experiment=quickstart"}),
        ("dtb score f.h5 num_im", {"num_images="}),
        ("dtb draw DARTS", {"DARTS_V1", "DARTS_V2"}),
    ],
)
def test_a_shell_completes(line: str, wanted: set[str], tmp_path: Path) -> None:
    asked = {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "told")}
    subprocess.run([sys.executable, "-m", "dtb_builder.cli"], env=os.environ | asked, check=True)
    told = re.split(r"\v", (tmp_path / "told").read_text())
    assert {text.strip() for text in told} == wanted


def test_a_folder_stands_for_its_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path)])
    assert f"{tmp_path} is a folder without dtb.h5" in capsys.readouterr().err
    (tmp_path / "plan.csv").touch()
    with pytest.raises(SystemExit):
        main(["query", str(tmp_path)])
    assert f"not merged yet: dtb merge {tmp_path} makes" in capsys.readouterr().err
    shutil.copy(EXAMPLE, tmp_path / "dtb.h5")
    for asked in (["info"], ["verify"], ["query", "--run", "0"], ["export", "--csv", "-"]):
        assert main([*asked, str(tmp_path)]) == 0


def test_a_genotype_is_found_by_the_first_digits_of_its_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Benchmark(EXAMPLE) as bench:
        key = bench[4].genotype.key
    assert main(["query", str(EXAMPLE), "--genotype", key[:6]]) == 0
    assert capsys.readouterr().out.startswith("run 4 ")


def test_an_unknown_genotype_is_told_by_its_name_with_the_three_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["query", str(EXAMPLE), "--genotype", "DARTS_V2"]) == 2
    first, *nearest = capsys.readouterr().err.splitlines()
    assert first.endswith("has no run of DARTS_V2; the nearest are:")
    edits = [int(line.rpartition(": ")[2].removesuffix(" edits")) for line in nearest]
    assert len(edits) == 3
    assert edits == sorted(edits)


def test_a_table_wider_than_the_terminal_is_printed_in_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["query", str(EXAMPLE), "--epoch", "-1"]
    assert main(asked) == 0
    whole = capsys.readouterr().out.splitlines()
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(asked) == 0
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 60
    blocks = [block.splitlines() for block in narrow.split("\n\n")]
    joined = [[w for block in row for w in block.split()] for row in zip(*blocks, strict=True)]
    assert [set(row) for row in joined] == [set(line.split()) for line in whole]
    assert main([*asked, "--wide"]) == 0
    wide = capsys.readouterr().out.splitlines()
    assert len(wide) == len(whole)
    assert "normal_concat" in wide[1]


LIGHT = """
import contextlib, json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocked())
from dtb_builder.cli import main
codes = {}
for asked in json.loads(sys.argv[2]):
    try:
        codes[asked[0]] = main(asked)
    except SystemExit as stop:
        codes[asked[0]] = stop.code
print(json.dumps(codes))
"""
EXTRAS = (
    "ConfigSpace,aiohttp,dacite,filelock,fsspec,hdf5plugin,huggingface_hub,hydra,mlcroissant,"
    "omegaconf,pandas,plotly,pooch,pyarrow,ray,resvg_py,safetensors,scipy,sklearn,threadpoolctl,"
    "torch,xarray,yaml"
)


def test_whatever_only_reads_needs_no_extra(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    example_folder(folder)
    asked = [["--help"], ["--version"], ["info", str(folder)], ["verify", str(folder)]]
    asked += [["query", str(folder), "--epoch", "-1"], ["status", str(folder)]]
    asked += [["draw", "DARTS_V2", "--into", str(tmp_path / "cells.svg")]]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, EXTRAS, json.dumps(asked)], capture_output=True, text=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {each[0]: 0 for each in asked}, done.stderr
    assert "12 of 12 finished" in done.stdout


def example_folder(folder: Path) -> None:
    """The run folder of the example benchmark, merged; its only shard is the benchmark itself."""
    (folder / "shards").mkdir(parents=True)
    for file in (folder / "dtb.h5", folder / "shards" / "shard-00000.h5"):
        shutil.copy(EXAMPLE, file)
    with Benchmark(EXAMPLE) as bench:
        (folder / "provenance.json").write_text(bench.provenance_text)
    (folder / "plan.csv").touch()
