# shellcheck shell=bash
# What every launcher of this folder shares: the environment of a worker, and the one line of work.
# A launcher sources it, with DTB_RUN_FOLDER set to a run folder that all its machines see.
set -euo pipefail

: "${DTB_RUN_FOLDER:?set DTB_RUN_FOLDER to a run folder on a disk that all machines share}"

# Ray of a cluster of one's own asks for a token since 2.59, on every machine the same.
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
# Ray gives a node 30 seconds to start, which a busy machine or a slow disk exceeds.
export RAY_raylet_start_wait_time_s="${RAY_raylet_start_wait_time_s:-120}"
# A machine that vanishes without a word is noticed within a minute: the head's Ray reads the last,
# a driver the others.
export RAY_grpc_client_keepalive_time_ms="${RAY_grpc_client_keepalive_time_ms:-15000}"
export RAY_grpc_client_keepalive_timeout_ms="${RAY_grpc_client_keepalive_timeout_ms:-15000}"
export RAY_health_check_timeout_ms="${RAY_health_check_timeout_ms:-5000}"
# One thread a run unless the config says more: torch reads compute.threads, the rest reads these.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}"

# The work: the settings that follow are those of dtb, as in experiment=nb301 or cluster=auto. It takes
# the place of the shell, so that a signal reaches it.
dtb_generate() {
  exec dtb generate "$DTB_RUN_FOLDER" "$@"
}
