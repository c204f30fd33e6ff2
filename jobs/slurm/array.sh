#!/usr/bin/env bash
#SBATCH --job-name=dtb
#SBATCH --array=0-9
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --output=dtb-%A-%a.log
# A Slurm array: every task works on its own range of shards, with a Ray of its own on its node. No
# node knows of another, so that none can take another down: the sturdy choice. For 100 shards on ten
# nodes, once `dtb plan` has said how many shards there are:
#
#   DTB_RUN_FOLDER=/shared/runs/mine DTB_SHARDS_PER_TASK=10 \
#     sbatch --array=0-9 jobs/slurm/array.sh experiment=nb301
#
# A task that was stopped is submitted again as it was, as in --array=3; one that ran into the time
# limit exits with 75 and puts itself back in the queue.
# shellcheck source=jobs/common.sh
source "${DTB_JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/common.sh"

: "${SLURM_ARRAY_TASK_ID:?submit this with sbatch --array=FIRST-LAST}"
per_task="${DTB_SHARDS_PER_TASK:?set DTB_SHARDS_PER_TASK to the shards of each task}"
first=$((SLURM_ARRAY_TASK_ID * per_task))
last=$((first + per_task - 1))

# In the background, so that this shell hears Slurm's SIGTERM at once and passes it on; that ends the
# first wait early, and a second one has the exit code. One that comes earlier is passed on late.
worker='' stopped=0 status=0
trap 'stopped=1; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null || true' TERM
dtb_generate "$@" "cluster.shards=$first-$last" &
worker=$!
[ "$stopped" -eq 0 ] || kill -TERM "$worker" 2>/dev/null || true
wait "$worker" || status=$?
if [ "$stopped" -eq 1 ]; then
  status=0
  wait "$worker" || status=$?
  [ "$status" -ne 143 ] || status=75 # it was stopped before it had begun
fi
if [ "$status" -eq 75 ] && command -v scontrol >/dev/null; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
