#!/usr/bin/env bash
# The Ray of one node of a job, for multinode.sh: `ray_node.sh head` or `ray_node.sh worker`. A Ray
# that does not come up, or dies, is started again.
# shellcheck source=jobs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

if [ "$1" = head ]; then
  role=(--head "--node-ip-address=${DTB_RAY_HEAD%:*}" "--port=${DTB_RAY_HEAD##*:}"
    --include-dashboard=false)
else
  role=("--address=$DTB_RAY_HEAD")
fi
cpus="${SLURM_CPUS_PER_TASK:+--num-cpus=$SLURM_CPUS_PER_TASK}"

ray=''
trap 'kill -TERM $ray 2>/dev/null || true; wait; exit 0' TERM
for _ in 1 2 3 4 5 6 7 8 9 10; do
  # shellcheck disable=SC2086 # DTB_RAY_OPTIONS are several words
  ray start "${role[@]}" ${cpus:+"$cpus"} --block ${DTB_RAY_OPTIONS:-} &
  ray=$!
  status=0
  wait "$ray" || status=$?
  echo "dtb: Ray ($1) on $(hostname) ended with $status: once more" >&2
  sleep 5 &
  wait $!
done
exit 1
