#!/usr/bin/env bash
#SBATCH --job-name=dtb
#SBATCH --array=0-9
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=dtb-%A-%a.log
# What many sites ask for: take away one # (or give it to sbatch).
##SBATCH --partition=gpu
##SBATCH --account=PROJECT
##SBATCH --qos=normal
##SBATCH --mail-type=END,FAIL --mail-user=YOU@EXAMPLE.ORG
# Nodes that are shared: these lines instead of --exclusive and --mem=0 above. Ray then uses the
# job's own CPUs and GPUs.
##SBATCH --gres=gpu:1
##SBATCH --cpus-per-task=8 --mem=32G
#
# A Slurm array: every task works on its own range of shards, with a Ray of its own on its node. No
# node knows of another, so that none can take another down: the sturdy choice. For 100 shards on ten
# nodes, once `dtb plan` has said how many shards there are, from the folder that has jobs/:
#
#   DTB_RUN_FOLDER=/shared/runs/mine DTB_SHARDS_PER_TASK=10 \
#     sbatch --array=0-9 jobs/slurm/array.sh experiment=nb301
#
# A task that reaches its time limit stops and is requeued; `scancel` ends it. A task that was
# cancelled is submitted again as it was, as in --array=3. `scancel --signal=TERM --batch JOB` stops
# it as gently as the time limit does.
#
# sbatch hands on the environment that it is called from. Where your site does not (--export=NONE),
# set it up here:
#module load python cuda
#source "$HOME/dtb/bin/activate"                        # or: conda activate dtb
jobs="${DTB_JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}"
# shellcheck source=jobs/slurm/in_job.sh
source "$jobs/slurm/in_job.sh" || {
  echo "dtb: no $jobs/slurm/in_job.sh: submit from the folder that has jobs/, or set DTB_JOBS" >&2
  exit 2
}

: "${SLURM_ARRAY_TASK_ID:?submit this with sbatch --array=FIRST-LAST}"
per_task="${DTB_SHARDS_PER_TASK:?set DTB_SHARDS_PER_TASK to the shards of each task}"
first=$((SLURM_ARRAY_TASK_ID * per_task))
cpus="${SLURM_CPUS_PER_TASK:+cluster.num_cpus=$SLURM_CPUS_PER_TASK}"
work_in_job ${cpus:+"$cpus"} "$@" "cluster.shards=$first-$((first + per_task - 1))"
