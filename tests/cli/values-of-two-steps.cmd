# RUN: nnc examples/mlp/model.nn --emit=dot --trace=train --trace=finetune --values=values.safetensors -o %t.dot
# EXIT: 2
