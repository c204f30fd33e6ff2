"""From states to scores.

| verb | reads | writes | run again |
|---|---|---|---|
| `driver` (`dtb score`) | `dtb.h5` or a shard; or a published table | `scores.parquet` in the same folder; while it runs, `scores.parquet.working/`: checksummed lines, one per state | continues after the last scored state; other settings are refused |
| `das_reference` | images | the reference samples of the package | same processor, same bytes |
"""
