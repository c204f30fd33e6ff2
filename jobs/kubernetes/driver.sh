#!/usr/bin/env bash
# The driver of rayjob.yaml. A generation that ends with runs given up (1) is over: KubeRay, which
# would take 1 for a driver that died, must not build the cluster anew for it.
# shellcheck source=jobs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

status=0
(dtb_generate "$@") || status=$?
if [ "$status" -eq 1 ]; then
  dtb status "$DTB_RUN_FOLDER"
  exit 0
fi
exit "$status"
