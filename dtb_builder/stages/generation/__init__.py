"""From a config to ``dtb.h5``.

| verb | reads | writes | run again |
|---|---|---|---|
| `plan` | conf, images | `config.yaml`, `provenance.json`, `plan.csv` (last: it marks a whole plan) | same config, same bytes; another config, or an edited file, is refused with the difference |
| `branch` | a benchmark, images | `parent.h5`: the parent runs up to the start of the branch; then as `plan` | as `plan` |
| `adopt` (`dtb generate --adopt`) | plan, shards and benchmarks of other studies | `working/`: a finished journal for each run that they have | takes over what is left |
| `driver` (`dtb generate`) | plan | `working/shard-NNNNN/` while it runs: a journal and the latest checkpoint of each run; then `shards/shard-NNNNN.h5`; `logs/`; `kernels/` on a GPU | continues after the last finished epoch of every run |
| `merge` | shards | `dtb.h5`, and `states-HASH-NNNNN.h5` with `volume_size` | same shards in any order, same bytes |
| `unite` | benchmarks of one deciding config | a benchmark of all their runs | refuses to write over a file |
| `status`, `monitor` | the files | nothing | works while nothing runs |
| `estimate`, `calibrate` | plan, images | nothing that stays | the same numbers; calibrate measures again |
| `repair` | a damaged shard or benchmark, shards of other plans | the intact runs: as finished journals for generate, or `*.repaired.h5`; the files themselves go to `damaged/` | a stopped repair can be repeated |
| `reproduce` | a benchmark | nothing: it trains one run again and compares | |
"""
