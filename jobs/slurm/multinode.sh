#!/usr/bin/env bash
#SBATCH --job-name=dtb
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=dtb-%j.log
# What many sites ask for: take away one # (or give it to sbatch).
##SBATCH --partition=gpu
##SBATCH --account=PROJECT
##SBATCH --qos=normal
##SBATCH --mail-type=END,FAIL --mail-user=YOU@EXAMPLE.ORG
##SBATCH --gres=gpu:1 --cpus-per-task=8 --mem=32G
#
# One Ray cluster over all nodes of a Slurm job. Work begins on the first node at once; every other
# node joins as soon as its Ray is up, and is tried again when that fails. From the folder that has
# jobs/:
#
#   DTB_RUN_FOLDER=/shared/runs/mine sbatch --nodes=4 jobs/slurm/multinode.sh experiment=nb301
#
# A job that reaches its time limit is requeued; `scancel` ends it. DTB_RAY_PORT is Ray's port, of
# which every job has its own; DTB_RAY_OPTIONS are given to `ray start` on every node.
#
#module load python cuda
#source "$HOME/dtb/bin/activate"                        # or: conda activate dtb
jobs="${DTB_JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}"
# shellcheck source=jobs/slurm/in_job.sh
source "$jobs/slurm/in_job.sh" || {
  echo "dtb: no $jobs/slurm/in_job.sh: submit from the folder that has jobs/, or set DTB_JOBS" >&2
  exit 2
}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port="${DTB_RAY_PORT:-$((20000 + SLURM_JOB_ID % 10000))}"
# Not 127.0.1.1, by which Debian's /etc/hosts has a machine know itself.
ip="$(getent ahostsv4 "${nodes[0]}" | awk '$1 !~ /^127\./ {print $1; exit}')"
export DTB_RAY_HEAD="${ip:-$(hostname -I | awk '{print $1}')}:$port"

# The token is made once, before the nodes ask for it; the home folder is taken to be shared.
if [ "$RAY_AUTH_MODE" = token ]; then
  ray get-auth-token --generate >/dev/null
fi

bash "$jobs/slurm/ray_node.sh" head &
ray=("$!")
if [ "${#nodes[@]}" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
    --exclude="${nodes[0]}" --kill-on-bad-exit=0 bash "$jobs/slurm/ray_node.sh" worker &
  ray+=("$!")
fi

# shellcheck disable=SC2329 # work_in_job calls it
stop_ray() {
  kill -TERM "${ray[@]}" 2>/dev/null || true
  wait "${ray[@]}" 2>/dev/null || true
}

# shellcheck disable=SC2034
at_end=stop_ray
work_in_job "$@" cluster=auto "cluster.address=$DTB_RAY_HEAD"
