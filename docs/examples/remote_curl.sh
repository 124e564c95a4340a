#!/usr/bin/env bash
# Segment a case on an engine with curl alone.
# Usage: SOFA_URL=http://127.0.0.1:8484 SOFA_TOKEN=... ./remote_curl.sh case.sofa labels.nii.gz
# case.sofa is made by remote_upload.py.
set -euo pipefail
case_file=$1 output=$2

sofa() { # sofa METHOD PATH [curl options]
    local method=$1 path=$2
    shift 2
    # The header comes from a file descriptor, so that the token is on no command line.
    curl --silent --show-error --fail-with-body --request "$method" \
        --header @<(printf 'Authorization: Bearer %s\n' "$SOFA_TOKEN") \
        --header 'Accept: application/json' "$@" "$SOFA_URL/v1$path"
}

session=$(sofa POST /sessions --header 'Content-Type: application/x-sofa-message' --data-binary "@$case_file" |
    sed -E 's/.*"session":"([^"]+)".*/\1/')
trap 'sofa DELETE "/sessions/$session"' EXIT

sofa POST "/sessions/$session/first-pass" --json '{}'
echo
sofa GET "/sessions/$session/volumes"
echo
sofa POST "/sessions/$session/refine" --json \
    '{"sub_region": "et", "boxes": [{"lower": [10, 20, 15], "upper": [35, 50, 45]}]}'
echo
sofa GET "/sessions/$session/labels.nii.gz?scheme=2023" --output "$output"
