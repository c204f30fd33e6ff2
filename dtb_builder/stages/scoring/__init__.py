"""From states to scores.

| verb | reads | writes | run again |
|---|---|---|---|
| `driver` (`dtb score`) | `dtb.h5` or a shard; or a published table | `scores.parquet` beside it; meanwhile `scores.parquet.working/`: checksummed lines, one per state | goes on after the last scored state; other settings are refused |
| `das_reference` | images | the reference samples that the package ships | same processor, same bytes |
"""
