"""Engines, the loop that runs tasks, locks, files of records, and the frame of HTML pages.

| module | reads | writes | run again |
|---|---|---|---|
| `locking` | lock files | `.lock`, `.locks/` | a lock is freed by the system when its holder dies |
| `ray_log` | nothing | Ray's log, such as `logs/ray.log` | appends |
| `lines` | a file of checksummed lines | appends to it | an incomplete last line is cut off |
"""
