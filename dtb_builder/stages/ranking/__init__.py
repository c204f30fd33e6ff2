"""From scores to rankings.

| verb | reads | writes | run again |
|---|---|---|---|
| `rank`, `choice`, `report` (`dtb rank`) | `dtb.h5`, `scores.parquet`; or a published table and its scores | `rank.json`, `rank.html` | same seed, same ranking |
"""
