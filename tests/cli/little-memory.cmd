# RUN: ulimit -v 20000; printf 'nn 1;\nmodel m { layer net = dense(2); infer f(x: f32[1, 3]) -> y { y = net(x); } }\n' | nnc - -o /dev/null
# NOT: asan
