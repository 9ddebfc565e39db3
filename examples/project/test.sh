#!/bin/sh
# Tests what build.sh built: every line is counted once, and the busiest language comes first.
set -eu
cd "$(dirname "$0")"
expected=$(awk -F, 'NR > 1 { sum += $3 } END { print sum }' commits.csv)
found=$(awk '{ sum += $1 } END { print sum }' out/report.txt)
[ "$expected" = "$found" ] || { echo "FAIL: $found lines instead of $expected"; exit 1; }
sort -c -rn out/report.txt
echo "ok: $found lines in $(wc -l <out/report.txt) languages"
