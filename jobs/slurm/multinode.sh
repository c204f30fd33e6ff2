#!/usr/bin/env bash
#SBATCH --job-name=dtb
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=dtb-%j.log
# One Ray cluster over all nodes of a Slurm job. `ray symmetric-run` starts Ray on each, waits until
# all are there, and runs the work on the first.
#
#   DTB_RUN_FOLDER=/shared/runs/mine sbatch --nodes=4 jobs/slurm/multinode.sh experiment=nb301
#
# symmetric-run exits with 0 even when Ray could not be started: the last line tells whether the work
# was done.
# shellcheck source=jobs/common.sh
source "${DTB_JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/common.sh"

export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT="${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-300}"
port="${DTB_RAY_PORT:-6379}"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")

# The token is made once, before the nodes ask for it; the home folder is taken to be shared.
if [ "$RAY_AUTH_MODE" = token ]; then
  ray get-auth-token --generate >/dev/null
fi

jobs="${DTB_JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}"
srun --kill-on-bad-exit=0 ray symmetric-run \
  --address "${nodes[0]}:$port" \
  --min-nodes "$SLURM_JOB_NUM_NODES" \
  -- bash "$jobs/one_box.sh" "$@" cluster=auto || true

dtb status "$DTB_RUN_FOLDER" --check
