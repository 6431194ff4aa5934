# RUN: printf 'nn 1;\nmodel m { infer f(x: f32[2]) -> y { y = x + ; } }' | nnc -
# EXIT: 1
