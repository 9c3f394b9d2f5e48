#!/bin/sh
# A consumer of payloads, with curl and jq: consumer.sh RELAY STATE_DIR COMMAND [ARGUMENT...]
# COMMAND gets the payload on standard input, and JOB, ATTEMPT and RESULT in its environment. Its output is the log of
# the job; what it writes to the file $RESULT is the result. Exit code 0: succeeded; 75: try again later; else: failed.
# The first start needs an enrolment token in STATE_DIR/token. CURL_CA_BUNDLE and HTTPS_PROXY are curl's own.
set -eu && umask 077
for needed in curl jq flock; do command -v $needed >/dev/null || { echo "$needed is missing" >&2 && exit 69; }; done
relay=$1 state=$(cd "$2" && pwd) curl='' pid=''
cd "$state" && shift 2 && exec 9>lock
flock -n 9 || { echo "another consumer runs in $state" >&2 && exit 75; }
trap 'kill $curl $pid 2>/dev/null || true; exit 143' INT TERM # a poll left behind would be granted a job
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
header() { printf 'Authorization: Bearer %s\nEdge-Agent: %s\n' "$(cat "$1")" "$key" >header; } # no secret in arguments
call() { # METHOD PATH TYPE BODY_FILE: the status in $code, the body in `answer`; curl repeats with the same request id
  curl -sS -X "$1" "$relay$2" -H @header -H "Content-Type: $3" --data-binary "@$4" -H "X-Request-Id: $(random)" -o answer \
    -w '%{http_code}' --max-time 60 --retry 9 --retry-connrefused --retry-max-time 60 >code 9>&- & curl=$!
  wait $curl && code=$(cat code) || code=000; curl=
}
post() { printf '%s' "$2" >body && call POST "$1" application/json body; }
poll() { # FREE SECONDS JOBS
  seq=$((seq + 1))
  post /v1/poll "{\"protocol\": 1, \"incarnation\": $incarnation, \"seq\": $seq, \"instance\": \"$instance\",
    \"slots\": 1, \"free\": $1, \"poll_timeout_s\": $2, \"jobs\": $3, \"kinds\": [\"payload\"], \"settings_version\":
    $settings, \"versions\": {\"agent\": \"consumer.sh\", \"python\": \"none\", \"platform\": \"$(uname -s)\"}}"
  case $code in 20?) contact=$(date +%s) ;; 401) cat answer >&2 && exit 1 ;; *) sleep 2 ;; esac
  [ "$code" != 200 ] || settings=$(jq ".settings.version // $settings" answer)
}
upload() { # what the log has grown by
  while tail -c +$((offset + 1)) log | head -c 200000 >chunk && [ -s chunk ]; do
    call PUT "/v1/jobs/$job/log?offset=$offset" application/octet-stream chunk
    [ "$code" = 200 ] && offset=$(jq .offset answer) || return 0
  done
}
work() {
  job=$(jq -r .job.id grant) offset=0 tolerance=$(jq '.job.offline.tolerance_s | floor' grant)
  post "/v1/jobs/$job/start" "$(jq -c "{receipt, incarnation: $incarnation}" grant)"
  [ "$code" = 204 ] && : >result || return 0 # another consumer has the job
  jq -r '.job.work.payload | .data // (.text | @base64)' grant | base64 -d >payload
  JOB=$job ATTEMPT=$(jq .job.attempt grant) RESULT=$state/result "$@" <payload >log 2>&1 9>&- & pid=$!
  while kill -0 $pid 2>/dev/null; do # each poll renews the contact
    poll 0 2 "[{\"id\": \"$job\", \"phase\": \"running\"}]"
    [ "$code" != 200 ] || [ "$(jq '.stop | length' answer)" = 0 ] || kill $pid 2>/dev/null || true
    # In the second half of the tolerance it stops: at its end another consumer gets the job.
    [ $(($(date +%s) - contact)) -lt $((tolerance / 2)) ] || kill $pid 2>/dev/null || true
    upload
  done
  wait $pid && exit=0 || exit=$?
  pid='' && base64 -w 0 result >data
  jq -c --rawfile data data 'if $data == "" then {} else {result: {data: $data}} end
    + {receipt, incarnation: '$incarnation', exit_code: '$exit'}' grant >body
  [ $exit != 75 ] || jq -c '{receipt, reason: "exit code 75", delay_s: 30}' grant >body
  end=$([ $exit = 75 ] && echo release || echo finish)
  until call POST "/v1/jobs/$job/$end" application/json body # without an answer the work would be done again
    case $code in 000 | 429 | 5??) false ;; esac do sleep 5; done
}
key=$(random) seq=0 settings=0 contact=0 incarnation=$(($(cat incarnation 2>/dev/null || echo 0) + 1))
echo $incarnation >incarnation && instance=$(echo "$(cat /proc/sys/kernel/random/boot_id) $state" | sha256sum | cut -c 1-32)
[ -f secret ] || [ -f new ] || printf 'erw_%s' "$(random)" >new
[ -f secret ] || { header token && post /v1/enroll "{\"protocol\": 1, \"secret_hash\": \"$(sha256sum <new | cut -c 1-64)\"}"; }
[ -f secret ] || { [ "$code" = 200 ] && mv new secret; } || { cat answer >&2 && exit 1; }
header secret
while poll 1 30 '[]'; do
  if [ "$code" = 200 ] && jq -ce '.grants[0] // empty' answer >grant; then work "$@"; fi
done
