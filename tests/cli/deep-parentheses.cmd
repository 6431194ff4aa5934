# RUN: { printf 'nn 1;\nconst A = '; head -c 100000 /dev/zero | tr '\0' '('; printf '1;\n'; } | nnc - 2>%t.e; code=$?; cut -c1-120 %t.e; rm %t.e; exit $code
# EXIT: 1
