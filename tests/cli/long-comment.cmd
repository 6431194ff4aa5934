# RUN: { printf 'nn 1; # '; head -c 2000000 /dev/zero | tr '\0' a; echo; } | nnc - 2>%t.e; code=$?; cut -c1-120 %t.e; rm %t.e; exit $code
# EXIT: 1
