"""A benchmark for people.

| verb | reads | writes | run again |
|---|---|---|---|
| `report` | `dtb.h5`, `scores.parquet` where it is | `report.html` | the same bytes, but for ids that plotly draws |
| `draw` | a genotype | a picture | the same bytes |
| `publish` | `dtb.h5`, `scores.parquet` where it is | a new folder with `SHA256SUMS`, which `verify` reads | refused where something is |
| `tables` (`dtb query`) | `dtb.h5` or a shard | nothing | a read never writes, draws or prints anything else |
"""
