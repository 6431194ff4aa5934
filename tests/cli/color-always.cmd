# RUN: printf 'nn 1;\nmodel m { infer f(x: f32[2]) -> y { y = z; } }\n' | nnc - --color=always
# EXIT: 1
