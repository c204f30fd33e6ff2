# shellcheck shell=bash
# The work inside a Slurm job, and what the job does when it is told to stop. A launcher sources it.
#
#   the time limit is near   Slurm sends SIGUSR1 (--signal=B:USR1@120): dtb stops, the job is requeued
#   scancel, or preemption   Slurm sends SIGTERM: dtb stops, and the job is over; where the site
#                            preempts by requeueing, Slurm itself puts the job back
#   dtb exits with 75        it could not start, as when Ray was not up in time: requeued ten times
#
# A requeued job starts two minutes later at the earliest: Slurm waits that long itself.
# shellcheck source=jobs/common.sh disable=SC2154 # the launcher has set jobs
source "$jobs/common.sh"

worker='' told=''

stop_worker() {
  told="$1"
  echo "dtb: told to stop: $told"
  [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null || true
}

# Run dtb_generate with the settings given and exit with its code, after "$at_end" if that is set.
# In the background, so that this shell hears signals at once; a signal ends a wait early, so it waits
# until dtb is gone, and once more for its code.
work_in_job() {
  local status=0
  trap 'stop_worker "the time limit is near"' USR1
  trap 'stop_worker SIGTERM' TERM
  echo "dtb: job $job_id on $(hostname), try $((${SLURM_RESTART_COUNT:-0} + 1))"
  (dtb_generate "$@") &
  worker=$!
  [ -z "$told" ] || stop_worker "$told" # told before there was a worker
  while kill -0 "$worker" 2>/dev/null; do
    wait "$worker" || true
  done
  wait "$worker" || status=$?
  [ "$status" -ne 143 ] || status=75 # stopped before dtb listened
  ${at_end:-:}
  if [ "$status" -eq 75 ] && should_be_requeued; then
    scontrol requeue "$job_id"
  fi
  exit "$status"
}

should_be_requeued() {
  [ "$told" = "the time limit is near" ] || { [ -z "$told" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; }
}

# A task of an array is not named by its job id: that of the last one is the whole array's, too.
job_id="$SLURM_JOB_ID"
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  job_id="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
