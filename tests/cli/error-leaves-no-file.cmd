# RUN: printf 'nn 1;\nmodel m { infer f(x: f32[2]) -> y { y = z; } }\n' | nnc - -o %t.c; code=$?; ls %t.c* 2>/dev/null; exit $code
# EXIT: 1
