"""Pages, pictures and tables of a benchmark.

| verb | reads | writes | run again |
|---|---|---|---|
| `report` | `dtb.h5`, `scores.parquet` if it exists | `report.html` | the same bytes |
| `draw` | a genotype | a picture | the same bytes |
| `publish` | `dtb.h5`, `scores.parquet` if it exists | a new folder with `SHA256SUMS`, which `verify` reads | refused: the folder is not empty |
| `tables` (`dtb query`) | `dtb.h5` or a shard | nothing | prints the same |
"""
