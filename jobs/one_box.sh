#!/usr/bin/env bash
# One machine, all its cores or GPUs, with a Ray of its own:
#
#   DTB_RUN_FOLDER=runs/mine jobs/one_box.sh experiment=nb301 cluster.gpus_per_run=0.5
# shellcheck source=jobs/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

dtb_generate "$@"
