#!/usr/bin/env bash
# The driver of rayjob.yaml. Exit code 1 means that the generation has ended with runs given up. It
# becomes 0 here, because KubeRay would start a new cluster for a driver that exits with 1.
# shellcheck source=jobs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

status=0
(dtb_generate "$@") || status=$?
if [ "$status" -eq 1 ]; then
  dtb status "$DTB_RUN_FOLDER"
  exit 0
fi
exit "$status"
