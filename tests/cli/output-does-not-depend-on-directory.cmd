# RUN: nnc examples/mlp/model.nn -o - >%t.1; cd examples/mlp && nnc model.nn -o - | cmp - ../../%t.1; code=$?; rm -f ../../%t.1; exit $code
