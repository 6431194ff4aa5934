# RUN: { echo 'nn 1;'; i=0; while [ $i -lt 100 ]; do echo "const A$i = ;"; i=$((i+1)); done; } | nnc - 2>%t.e; code=$?; tail -n 1 %t.e; rm %t.e; exit $code
# EXIT: 1
