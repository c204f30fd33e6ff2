"""How work gets done, whatever it is: engines, the one loop that runs tasks, locks, record files.

| module | reads | writes | run again |
|---|---|---|---|
| `locking` | lock files | `.lock`, `.locks/` | a lock is freed by the system when its holder dies |
| `ray_log` | nothing | a log of Ray's own words, as `logs/ray.log` | appends |
| `lines` | a file of checksummed lines | appends to it | an incomplete last line is cut off |
"""
