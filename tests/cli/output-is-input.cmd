# RUN: cp examples/linear/model.nn %t.nn; nnc %t.nn -o %t.nn 2>%t.e; code=$?; sed 's|[^ ]*/tests_cli|tests_cli|' %t.e >&2; rm -f %t.nn %t.e; exit $code
# EXIT: 2
