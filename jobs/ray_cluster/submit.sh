#!/usr/bin/env bash
# Hands the work to a Ray cluster that runs: `ray job submit` starts the driver on the cluster, where
# it lives on when this machine goes.
#
#   RAY_API_SERVER_ADDRESS=http://HEAD:8265 DTB_RUN_FOLDER=/runs/mine jobs/ray_cluster/submit.sh experiment=nb301
#
# Ray Client (ray://) is refused: a driver behind it loses its tasks when the connection breaks.
# shellcheck source=jobs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

environment="$(printf '{"env_vars": {"DTB_RUN_FOLDER": "%s", "OMP_NUM_THREADS": "%s"}}' \
  "$DTB_RUN_FOLDER" "$OMP_NUM_THREADS")"
ray job submit --runtime-env-json "$environment" -- \
  bash "${DTB_JOBS:-/opt/dtb/jobs}/one_box.sh" "$@" cluster=auto
