# RUN: { printf '# '; head -c 2000000 /dev/zero | tr '\0' a; printf '\nnn 1;\nmodel m { layer net = dense(2); infer f(x: f32[1, 3]) -> y { y = net(x); } }\n'; } | nnc - -o /dev/null
