# RUN: nnc examples/linear/model.nn -o %t.c -MD -MF %t.dep && sed 's/[^ ]*\(tests_cli_depfile\)/\1/g' %t.dep && rm %t.*
