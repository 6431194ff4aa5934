# RUN: printf 'nn 1;\nmodel m { infer f(x: f32[2]) -> y { y = z; } }\n' | NO_COLOR=1 nnc -
# EXIT: 1
