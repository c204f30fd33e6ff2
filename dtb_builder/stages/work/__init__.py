"""How work gets done, whatever it is: engines, the one loop that runs tasks, locks, record files.

| module | reads | writes | run again |
|---|---|---|---|
| `locking` | lock files | `.lock`, `.locks/` | a lock is freed by the system when its holder dies |
| `lines` | a file of checksummed lines | appends to it | an incomplete last line is cut off |
"""
