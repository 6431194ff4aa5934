# RUN: { printf 'nn 1;\nconst A = '; head -c 2000000 /dev/zero | tr '\0' 7; printf ';\n'; } | nnc - 2>%t.e; code=$?; cut -c1-120 %t.e; rm %t.e; exit $code
# EXIT: 1
