"""From a rule to a trained winner.

| verb | reads | writes | run again |
|---|---|---|---|
| `driver` (`dtb search`) | conf, `rank.json` | `search.json`, `candidates.lines`, `winner.txt` | continues after the last candidate |
| `winner` | `search.json`, `winner.txt` | `winner/`: a run folder | continues the winner's training |
"""
