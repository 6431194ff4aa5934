# RUN: nnc examples/mlp/model.nn --emit=dot --values=values.safetensors -o %t.dot
# EXIT: 2
