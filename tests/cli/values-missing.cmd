# RUN: nnc examples/backprop/model.nn --emit=dot --values=no/such/file -o %t.dot
# EXIT: 3
