#!/usr/bin/env bash
# Records the golden store folders in test/testdata/stores with real Apache brokers.
#
#   REFERENCE=/path/to/apache test/record/stores.sh [NAME...]
#
# REFERENCE is a script with the commands `up DIR NS_PORT BROKER_PORT key=value...`, `down DIR [--kill]` and
# `classpath VERSION`, APACHE_VERSION choosing the version. NAME is one of the four below (default: all).
# Needs java and javac 17, tar, gzip. Every run gives other times, ids and positions: commit archive and manifest together.
set -euo pipefail
: "${REFERENCE:?path of the script that starts Apache RocketMQ}"
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../testdata/stores
names=("$@")
[ $# -gt 0 ] || names=(apache-5.5.0-clean apache-5.5.0-kill apache-4.9.7-clean apache-4.9.7-kill apache-5.5.0-ipv6)
mkdir -p "$out"
port=${PORT:-21900}
for name in "${names[@]}"; do
  version=$(cut -d- -f2 <<<"$name") stop=$(cut -d- -f3 <<<"$name") ip=127.0.0.1 v6="[::1]"
  v6=::1
  [ "$stop" = ipv6 ] && ip=::1 && stop=clean
  work=$(mktemp -d)
  trap '"$REFERENCE" down "$work/apache"' ERR
  classes=$work/classes
  jars=$("$REFERENCE" classpath "$version")
  mkdir -p "$classes" "$out"
  javac -nowarn -encoding UTF-8 -d "$classes" -cp "$jars" "$here"/../java/src/common/compat/*.java "$here/../java/src/v${version%%.*}"/compat/*.java
  # Apache 4.9 does not start without these two files.
  mkdir -p "$work/apache/home/conf" "$work/apache/store/config"
  for part in namesrv broker; do echo '<configuration/>' > "$work/apache/home/conf/logback_$part.xml"; done
  # A group name of more than 120 characters can only come from an older broker's file; its retry topic needs V2 records.
  if [[ $version == 5* ]]; then
    long=$(printf 'long-group-%.0s' {1..14})end
    echo '{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1},"forbiddenTable":{},"subscriptionGroupTable":{"'"$long"'":{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"'"$long"'","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}}' \
      > "$work/apache/store/config/subscriptionGroup.json"
  fi
  APACHE_VERSION=$version "$REFERENCE" up "$work/apache" "$port" "$((port + 20))" "brokerIP1=$ip" \
    mappedFileSizeCommitLog=262144 mappedFileSizeConsumeQueue=1000 maxHashSlotNum=500 maxIndexNum=400 mappedFileSizeTimerLog=65536 waitTimeMillsInSendQueue=10000 \
    transactionCheckInterval=600000 transactionTimeOut=600000
  run=(java -Duser.home="$work" -Drocketmq.client.logRoot="$work" -cp "$classes:$jars")
  "${run[@]}" compat.Store "127.0.0.1:$port" "$work/live.json" "$v6:$((port + 20))"
  if [ "$stop" = kill ]; then "$REFERENCE" down "$work/apache" --kill; else "$REFERENCE" down "$work/apache"; fi
  "${run[@]}" compat.RawLog "$work/apache/store" "$version" "$stop" "$work/live.json" "$work/manifest.json"
  find "$work/apache/store" -name '*.bak' -size 0 -delete
  tar -C "$work/apache/store" --sort=name --owner=0 --group=0 -cf - . | gzip -9 > "$out/$name.tar.gz"
  gzip -9nc "$work/manifest.json" > "$out/$name.json.gz"
  ls -l "$out/$name".*
  [ -n "${KEEP:-}" ] && echo "kept $work" || rm -rf "$work"
  port=$((port + 40))
done
