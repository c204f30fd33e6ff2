# shellcheck shell=bash
# The environment of workers and the command of work, for all launchers of this folder. A launcher
# sources it with DTB_RUN_FOLDER set to a run folder on a disk that all its machines share.
set -euo pipefail

: "${DTB_RUN_FOLDER:?set DTB_RUN_FOLDER to a run folder on a disk that all machines share}"

# Since 2.59, a Ray cluster needs a token, which is the same on every machine.
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
# Ray gives a node 30 seconds to start, which a busy machine or a slow disk exceeds.
export RAY_raylet_start_wait_time_s="${RAY_raylet_start_wait_time_s:-120}"
# With these, a machine that vanishes is noticed within a minute. The head's Ray reads the last one,
# a driver the others.
export RAY_grpc_client_keepalive_time_ms="${RAY_grpc_client_keepalive_time_ms:-15000}"
export RAY_grpc_client_keepalive_timeout_ms="${RAY_grpc_client_keepalive_timeout_ms:-15000}"
export RAY_health_check_timeout_ms="${RAY_health_check_timeout_ms:-5000}"
# One thread per run by default: torch uses compute.threads, other libraries read these variables.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}"

# The work, with settings of dtb such as experiment=nb301 or cluster=auto. It replaces the shell, so
# that it receives signals.
dtb_generate() {
  exec dtb generate "$DTB_RUN_FOLDER" "$@"
}
