#!/bin/sh
# Builds out/report.txt: the languages of commits.csv, the busiest first.
set -eu
cd "$(dirname "$0")"
mkdir -p out
awk -F, 'NR > 1 { lines[$2] += $3 } END { for (name in lines) printf "%7d %s\n", lines[name], name }' \
  commits.csv | sort -rn >out/report.txt.new
mv out/report.txt.new out/report.txt
