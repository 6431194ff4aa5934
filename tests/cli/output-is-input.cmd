# RUN: cp examples/linear/model.nn %t.nn; nnc %t.nn -o %t.nn; code=$?; rm -f %t.nn; exit $code
# EXIT: 2
