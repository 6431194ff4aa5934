# RUN: nnc examples/gan/model.nn -o - >%t.1; LC_ALL=C.UTF-8 TZ=Asia/Tokyo nnc examples/gan/model.nn -o - | cmp - %t.1; code=$?; rm -f %t.1; exit $code
