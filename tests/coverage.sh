#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Prints line coverage per source file from the .gcda files below a build directory: tests/coverage.sh DIRECTORY

set -u
root=$(pwd)
dir=$1
mkdir -p "$dir/gcov"
find "$dir/obj" -name '*.gcda' | while read -r f; do
    (cd "$dir/gcov" && gcov -n "$root/$f" 2>/dev/null)
done | awk '
    /^File / { file = $2; gsub(/\047/, "", file) }
    /^Lines executed/ && file !~ /^\// {
        split($0, a, /[:% ]+/)
        percent = a[3]; lines = a[5]
        if (!(file in total) || percent * lines / 100 > hit[file]) { total[file] = lines; hit[file] = percent * lines / 100 }
        file = "/"
    }
    END {
        for (f in total) { printf "%6.1f %%  %5d lines  %s\n", 100 * hit[f] / total[f], total[f], f; H += hit[f]; T += total[f] }
        if (T) printf "%6.1f %%  %5d lines  all\n", 100 * H / T, T
        else { print "no coverage data" > "/dev/stderr"; exit 1 }
    }' | sort -k4
