#!/usr/bin/env bash
# Hands the work to a Ray cluster that runs: `ray job submit` starts the driver on the cluster, where
# it lives on when this machine goes. The cluster's token must be in ~/.ray/auth_token here, and its
# dashboard be reachable: `ray dashboard jobs/ray_cluster/cluster.yaml` forwards its port.
#
#   DTB_RUN_FOLDER=/runs/mine jobs/ray_cluster/submit.sh experiment=nb301
#
# DTB_JOBS is where the cluster has jobs/, if not in ~/dtb-src. Ray Client (ray://) is refused: a driver
# behind it loses its tasks when the connection breaks.
# shellcheck source=jobs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

export RAY_API_SERVER_ADDRESS="${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}"
environment="$(printf '{"env_vars": {"DTB_RUN_FOLDER": "%s", "OMP_NUM_THREADS": "%s"%s}}' \
  "$DTB_RUN_FOLDER" "$OMP_NUM_THREADS" "${DTB_JOBS:+, \"DTB_JOBS\": \"$DTB_JOBS\"}")"
# What follows -- is quoted for the cluster's shell, which must expand ~ all the same: so by bash -c.
# shellcheck disable=SC2016 # it expands there
ray job submit --runtime-env-json "$environment" -- \
  bash -c 'exec bash "${DTB_JOBS:-$HOME/dtb-src/jobs}/one_box.sh" "$@"' dtb "$@" cluster=auto
