# shellcheck shell=bash
# The work inside a Slurm job, and how the job handles signals. A launcher sources it.
#
#   the time limit is near   Slurm sends SIGUSR1 (--signal=B:USR1@120): dtb stops, the job is requeued
#   scancel, or preemption   Slurm sends SIGTERM: dtb stops, and the job ends; if the site preempts
#                            by requeueing, Slurm requeues the job
#   dtb exits with 75        it could not start, e.g. Ray was not up in time: requeued ten times
#
# Slurm starts a requeued job after two minutes at the earliest.
# shellcheck source=jobs/common.sh disable=SC2154 # the launcher has set jobs
source "$jobs/common.sh"

worker='' told=''

stop_worker() {
  told="$1"
  echo "dtb: told to stop: $told"
  [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null || true
}

# Run dtb_generate with the given settings and exit with its code, after "$at_end" if that is set.
# dtb runs in the background, so that this shell handles signals at once. A signal interrupts a wait,
# so the shell waits until dtb has ended, and once more for its exit code.
work_in_job() {
  local status=0
  trap 'stop_worker "the time limit is near"' USR1
  trap 'stop_worker SIGTERM' TERM
  echo "dtb: job $job_id on $(hostname), try $((${SLURM_RESTART_COUNT:-0} + 1))"
  (dtb_generate "$@") &
  worker=$!
  [ -z "$told" ] || stop_worker "$told" # the signal came before there was a worker
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

# The job id does not identify a task of an array: the last task's is also that of the whole array.
job_id="$SLURM_JOB_ID"
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  job_id="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
